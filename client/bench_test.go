package client_test

import (
	"testing"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/client/clienttest"
	"mrci.dev/mrci/wire"
)

// BenchmarkRun is one call after the other; its allocations are those of both
// ends.
func BenchmarkRun(b *testing.B) {
	h := clienttest.Start(b, clienttest.Options{Commands: []clienttest.Command{command("echo", func(*clienttest.Instance) wire.ReturnCode {
		return wire.NoErrors
	})}})
	c, err := client.Dial(b.Context(), h.Addr, client.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Run(b.Context(), "echo", nil, client.Handlers{}); err != nil {
			b.Fatal(err)
		}
	}
}
