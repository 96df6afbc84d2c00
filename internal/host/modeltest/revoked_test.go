package modeltest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"mrci.dev/mrci/wire"
)

// A right that is taken away while a sub-channel is being opened: when both
// calls are over the session does not have it open, whichever came first
// (commands 1.3). Somebody casts there then, and nothing may come.
func TestRevokedWhileOpened(t *testing.T) {
	steps, seed := wanted(t)
	rounds := max(20, min(steps, 10*ciSteps)/200)
	h, commands, users := startHost(t, false, maxSubs)
	link, err := newClients(h, "modeltest", newWorld(commands).byName["my_info"].id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.stop)
	const where = "-ch_name Hall -sub_name main"
	member := fmt.Sprintf("-ch_name Hall -user %s", userNames[1])
	for _, tt := range []struct {
		name string
		// give makes it possible that the guest opens main, take takes that away
		// while it does, on behalf of the owner or of the guest itself.
		give func(owner, guest *actor) error
		take string
		args string
		self bool
	}{
		{"removed", func(owner, guest *actor) error {
			if err := owner.must("invite_to_ch", member); err != nil {
				return err
			}
			return guest.must("accept_ch", "-ch_name Hall")
		}, "remove_ch_member", member, false},
		{"demoted", func(owner, guest *actor) error {
			if _, _, err := owner.call("invite_to_ch", member); err != nil { // the first time
				return err
			}
			if _, _, err := guest.call("accept_ch", "-ch_name Hall"); err != nil {
				return err
			}
			if err := owner.must("set_sub_ch_level", where+" -level 3"); err != nil {
				return err
			}
			return owner.must("set_member_level", member+" -level 3")
		}, "set_member_level", member + " -level 4", false},
		{"level set", func(owner, guest *actor) error {
			return owner.must("set_sub_ch_level", where+" -level 5")
		}, "set_sub_ch_level", where + " -level 1", false},
		{"sub-channel removed", func(owner, guest *actor) error {
			if _, _, err := owner.call("add_sub_ch", where); err != nil { // there is one the first time
				return err
			}
			return owner.must("set_sub_ch_level", where+" -level 5")
		}, "rm_sub_ch", where, false},
		{"override cleared", func(owner, guest *actor) error {
			if err := owner.must("set_sub_ch_level", where+" -level 1"); err != nil {
				return err
			}
			return guest.must("ch_owner_override", "-state 1")
		}, "ch_owner_override", "-state 0", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &revocation{storm: &storm{w: newWorld(commands), link: link, users: users}, rand: rand.New(rand.NewPCG(seed, 1))}
			if err := r.begin(seed); err != nil {
				t.Fatal(err)
			}
			taker := r.owner
			if tt.self {
				taker = r.guest
			}
			for n := range rounds {
				if err := tt.give(r.owner, r.guest); err != nil {
					t.Fatalf("round %d: %v", n, err)
				}
				if err := r.round(n, where, taker, tt.take, tt.args); err != nil {
					t.Fatalf("round %d of seed %d: %v", n, seed, err)
				}
			}
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d rounds, in %d of them it was open first", rounds, r.opened)
		})
	}
}

// revocation is a contest of an owner and a guest.
type revocation struct {
	*storm
	owner, guest *actor
	rand         *rand.Rand
	opened       int // rounds in which the opening worked
}

func (r *revocation) begin(seed uint64) error {
	r.byText = make(map[string]*message)
	r.peers = make(map[wire.SessionID]*actor)
	r.calls = make(map[outcome]int)
	for i := range 2 {
		a, err := r.enter(i, seed)
		if err != nil {
			return err
		}
		r.actors = append(r.actors, a)
	}
	r.owner, r.guest = r.actors[0], r.actors[1]
	if err := r.owner.must("add_ch", "-ch_name Hall"); err != nil {
		return err
	}
	return r.owner.must("add_sub_ch", "-ch_name Hall -sub_name main")
}

func (r *revocation) end() error {
	if err := r.owner.must("rm_ch", "-ch_name Hall"); err != nil {
		return err
	}
	for _, a := range r.actors {
		if err := r.link.drop(a.c); err != nil {
			return err
		}
	}
	return r.link.await(0)
}

// round lets the guest open while the taker takes, each as soon as it gets to
// it, and then casts there what nobody may get.
func (r *revocation) round(n int, where string, taker *actor, take, args string) error {
	open := r.w.byName["open_sub_ch"].id
	taking := r.w.byName[take].id
	opening := wire.AppendText(nil, wire.Text, open, 0, where)
	frame := wire.AppendText(nil, wire.Text, taking, 0, args)
	if taker == r.guest { // in one piece: the calls run side by side
		if err := r.guest.send(append(opening, frame...)); err != nil {
			return err
		}
	} else {
		if err := r.guest.send(opening); err != nil {
			return err
		}
		for range r.rand.IntN(20_000) { // some microseconds, of which nothing depends
			r.clock.Add(1)
		}
		if err := taker.send(frame); err != nil {
			return err
		}
	}
	codes, err := r.guest.idles(open, taking, taker == r.guest)
	if err != nil {
		return err
	}
	if codes[open] == done {
		r.opened++
	}
	if taker != r.guest {
		if codes, err = taker.idles(taking, 0, false); err != nil {
			return err
		}
	}
	if codes[taking] != done {
		return fmt.Errorf("%s: %d", take, codes[taking])
	}

	if take == "rm_sub_ch" { // the next one gets the id
		if err := r.owner.must("add_sub_ch", where); err != nil {
			return err
		}
	}
	if err := r.owner.must("open_sub_ch", where); err != nil {
		return err
	}
	// No text of a cast is known here: who reads one says that nobody has sent
	// it.
	if err := r.owner.mustSend("cast", wire.Bytes, fmt.Appendf(nil, "round %d", n)); err != nil {
		return err
	}
	if err := r.guest.must("my_info", ""); err != nil {
		return fmt.Errorf("after the right was taken away: %w", err)
	}
	return nil
}

// idles reads up to the end of a call, or of two.
func (a *actor) idles(one, other wire.CmdID, two bool) (map[wire.CmdID]wire.ReturnCode, error) {
	codes := make(map[wire.CmdID]wire.ReturnCode)
	for len(codes) == 0 || two && len(codes) < 2 {
		f, err := a.c.r.Next()
		if err != nil {
			return nil, err
		}
		if f.Type == wire.Idle && (f.Cmd == one || f.Cmd == other) {
			if codes[f.Cmd], _, err = wire.ParseIdle(f.Payload); err != nil {
				return nil, err
			}
			continue
		}
		if err := a.take(f); err != nil {
			return nil, err
		}
	}
	return codes, nil
}
