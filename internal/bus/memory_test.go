package bus_test

import (
	"testing"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	bustest.Run(t, func(*testing.T) bus.Bus { return bus.NewMemory() })
}
