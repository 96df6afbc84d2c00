package channel_test

import (
	"fmt"
	"testing"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// benchChannels is the number of channels of a large host.
const benchChannels = 10_000

// large is a host with 10,000 channels of two members and four sub-channels
// each; ann is in 200 of them.
func large(b *testing.B) *fixture {
	f := newFixture(b)
	f.user(b, "owner")
	f.user(b, "ann")
	f.user(b, "bob")
	err := f.db.Update(ctx, func(tx channel.Tx) error {
		for i := range benchChannels {
			ch, err := tx.AddChannel(fmt.Sprint("channel", i))
			if err != nil {
				return err
			}
			second := id("bob")
			if i%(benchChannels/channel.MaxChannels) == 0 {
				second = id("ann")
			}
			if err := tx.PutMember(ch, id("owner"), access.Standing{Level: wire.Owner}); err != nil {
				return err
			}
			if err := tx.PutMember(ch, second, access.Standing{Level: wire.Regular}); err != nil {
				return err
			}
			for sub := range wire.SubID(4) {
				if err := tx.PutSubChannel(ch, channel.SubChannel{ID: sub, Name: fmt.Sprint("sub-", sub), Lowest: wire.Regular}); err != nil {
					return err
				}
			}
			if _, err := tx.AddFlag(ch, channel.Flag{Sub: 1, Level: wire.Regular}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func BenchmarkLarge(b *testing.B) {
	f := large(b)
	ann := caller("ann")
	b.Run("memberships of 200", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if list, err := f.Memberships(ctx, ann.User, 0, channel.MaxChannels); err != nil || len(list.Rows) != channel.MaxChannels {
				b.Fatal(len(list.Rows), err)
			}
		}
	})
	b.Run("rights", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := f.Rights(ctx, ann, wire.ChannelID(i%benchChannels+1), 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := f.Open(ctx, ann, fmt.Sprint("channel", i%200*50), "sub-1"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("find by part of the name", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Channels(ctx, channel.Find{Name: "el99"}, 0, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("set sub level", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := f.SetSubLevel(ctx, caller("owner"), fmt.Sprint("channel", i%benchChannels), "sub-1", wire.Admin); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAudience is a change in a channel with many members, all of whom
// are to hear of it.
func BenchmarkAudience(b *testing.B) {
	f := newFixture(b)
	f.user(b, "owner")
	const members = 10_000
	for i := range members {
		f.user(b, fmt.Sprint("guest", i))
	}
	must[channel.MemberChange](b)(f.Add(ctx, caller("owner"), "room"))
	must[channel.SubChange](b)(f.AddSub(ctx, caller("owner"), "room", "inside"))
	err := f.db.Update(ctx, func(tx channel.Tx) error {
		for i := range members {
			if err := tx.PutMember(1, id(fmt.Sprint("guest", i)), access.Standing{Level: wire.Regular}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if out, err := f.SetSubLevel(ctx, caller("owner"), "room", "inside", wire.Regular); err != nil || len(out.Hear) != members+1 {
			b.Fatal(len(out.Hear), err)
		}
	}
}
