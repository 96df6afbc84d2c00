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

// BenchmarkCast is one cast after the other, and a row of them.
func BenchmarkCast(b *testing.B) {
	h := clienttest.Start(b, clienttest.Options{
		Commands: []clienttest.Command{command("cast", nil)},
		Script: func(s *clienttest.Session) {
			s.Begin()
			for {
				f, err := s.Read()
				if err != nil {
					return
				}
				idle(s, f, wire.NoErrors)
			}
		},
	})
	c, err := client.Dial(b.Context(), h.Addr, client.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	payload := make([]byte, 128)
	b.Run("Cast", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Cast(b.Context(), wire.Bytes, payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Caster", func(b *testing.B) {
		b.ReportAllocs()
		row := c.Caster()
		for b.Loop() {
			if err := row.Send(b.Context(), wire.Bytes, payload); err != nil {
				b.Fatal(err)
			}
		}
		if err := row.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}
