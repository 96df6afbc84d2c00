package hub

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/limit"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Rights is where the hub reads what somebody may do in a sub-channel.
type Rights interface {
	Rights(ctx context.Context, c channel.Caller, ch wire.ChannelID, sub wire.SubID) (channel.Rights, error)
}

// Settings are what the configuration says about the hub.
type Settings struct {
	AllActive      bool // all_channels_active_update
	RequestsPerMin int  // p2p_requests_per_min of one session; 0: no limit
}

// Config is what a hub needs. All fields are set.
type Config struct {
	Bus      bus.Bus
	Rights   Rights
	Settings func() Settings // asked at each use
}

// Occupant is the session that has a seat. Its methods never wait and call
// neither bus nor hub.
type Occupant interface {
	bus.Receiver
	// View returns what is known of the session now.
	View() *module.Session
	// SetOverride sets the owner override, so that View shows it, if the session
	// is logged in as the user and ctx, that of the call which sets it, has not
	// ended; otherwise it returns false.
	SetOverride(ctx context.Context, user wire.UserID, on bool) bool
	// Pace lets the session rest when it has sent more than others take
	// (protocol 9).
	Pace(sent bus.Sent)
}

// Hub connects the sessions of a host. Its methods may be called from any
// goroutine.
type Hub struct {
	cfg      Config
	turn     chan struct{} // holds a token while nobody changes a channel
	owed     []bus.Loss    // of who has the turn: what peers are told behind it
	requests *limit.Rate[wire.SessionID]
	tooMany  atomic.Uint64 // requests that were refused

	mu    sync.RWMutex // guards the maps and the users of seats
	seats map[wire.SessionID]*Seat
	users map[wire.UserID]*seats
}

// New returns a hub without sessions.
func New(cfg Config) *Hub {
	h := &Hub{
		cfg: cfg, turn: make(chan struct{}, 1),
		requests: limit.NewRate[wire.SessionID](limit.RateConfig{Limit: cfg.Settings().RequestsPerMin, Window: time.Minute}),
		seats:    make(map[wire.SessionID]*Seat), users: make(map[wire.UserID]*seats),
	}
	h.turn <- struct{}{}
	return h
}

// errNoSession answers calls on behalf of a session that has ended or logged
// out meanwhile.
var errNoSession = module.Invalid("You are not logged in any more; log in with auth.")

// seat returns the seat of a session.
func (h *Hub) seat(id wire.SessionID) (*Seat, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if s := h.seats[id]; s != nil {
		return s, nil
	}
	return nil, errNoSession
}

// seatsOf returns the seats of a user's sessions.
func (h *Hub) seatsOf(user wire.UserID) []*Seat {
	h.mu.RLock()
	defer h.mu.RUnlock()
	of := h.users[user]
	if of == nil {
		return nil
	}
	return slices.Collect(maps.Keys(of.all))
}

// Turn waits until nobody else changes a channel. The caller makes a change,
// tells of it (Changed, Departed) and calls done, once. Peers are told of what
// the change has closed when the turn is over: that are as many casts as there
// were holders.
func (h *Hub) Turn(ctx context.Context) (done func(), err error) {
	next, err := take(ctx, h.turn)
	if err != nil {
		return nil, err
	}
	return func() {
		lost := h.owed
		h.owed = nil
		next()
		h.lost(lost...)
	}, nil
}

// take takes the token of a lock that can be waited for with a context.
func take(ctx context.Context, lock chan struct{}) (done func(), err error) {
	select {
	case <-lock:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil { // both were ready
		lock <- struct{}{}
		return nil, context.Cause(ctx)
	}
	return func() { lock <- struct{}{} }, nil
}

// Reloaded takes over settings that have changed: whether all sub-channels have
// the active-update flag, for those that are open, and limits.
func (h *Hub) Reloaded(ctx context.Context) error {
	now := h.cfg.Settings()
	h.requests.SetLimit(now.RequestsPerMin)
	done, err := h.Turn(ctx) // set_active_flag waits
	if err != nil {
		return err
	}
	defer done()
	h.mu.RLock()
	seats := make([]*Seat, 0, len(h.seats))
	for _, s := range h.seats {
		seats = append(seats, s)
	}
	h.mu.RUnlock()
	open := make(map[wire.SubRef]struct{})
	for _, s := range seats {
		// Who opens something now has asked for the settings before or after
		// they changed. After its turn it is in the list, or will ask again.
		opened, err := s.open(ctx)
		if err != nil {
			return err
		}
		list := s.member.Opened()
		opened()
		for _, sub := range list {
			if sub.Sub.Channel != 0 {
				open[sub.Sub] = struct{}{}
			}
		}
	}
	var failed []error
	for ref := range open {
		active := now.AllActive
		if !active {
			stored, err := h.cfg.Rights.Rights(ctx, channel.Caller{}, ref.Channel, ref.Sub)
			if err != nil && !gone(err) {
				failed = append(failed, err)
				continue // it stays as it is
			}
			active = stored.Sub.Active
		}
		failed = append(failed, h.cfg.Bus.SetActive(ctx, ref, active))
	}
	return errors.Join(failed...)
}

// gone reports whether an error of Rights says that there is no such thing.
func gone(err error) bool {
	return errors.Is(err, channel.ErrNoChannel) || errors.Is(err, channel.ErrNoSubChannel)
}
