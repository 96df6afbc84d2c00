package bus

import (
	"context"
	"errors"

	"mrci.dev/mrci/wire"
)

// Settling returns b with a Request that takes rights away for good: behind the
// answers of the sessions it waits for settled, which returns when the changes
// that calls had begun are made or given up (commands 1.3). Calls that the
// sessions have given up may be at their last step.
func Settling(b Bus, settled func(ctx context.Context) error) Bus {
	return settling{b, settled}
}

type settling struct {
	Bus
	settled func(ctx context.Context) error
}

// Request implements Bus.
func (s settling) Request(ctx context.Context, to Target, e Event) error {
	err := s.Bus.Request(ctx, to, e)
	switch e.Async {
	case wire.AsyncLogout, wire.AsyncUserDeleted, wire.AsyncUserRankChg:
		return errors.Join(err, s.settled(ctx))
	}
	return err
}
