package modeltest

import (
	"strings"
	"testing"
)

// The judge finds what a host could do wrong, and nothing else.
func TestJudge(t *testing.T) {
	main := place{1, "main"}
	at := func(from, to tick) span { return span{from: from, to: to} }
	own := func(n int, from, to tick) span { return span{from: from, to: to, own: n} }
	// scene: ann and bob have main open from 10 on, ann casts from 20 to 30.
	type scene struct {
		h        *history
		ann, bob *party
		cast     *message
		made     *change
	}
	newScene := func() *scene {
		s := &scene{h: new(history), ann: newParty("ann"), bob: newParty("bob")}
		s.h.parties = []*party{s.ann, s.bob}
		for _, p := range s.h.parties {
			p.login.on = []span{own(1, 1, 2)}
			p.member[1] = &toggle{on: []span{at(3, 4)}}
			p.at(main).on = []span{own(2, 5, 10)}
		}
		s.cast = &message{from: s.ann, seq: 1, span: own(3, 20, 30)}
		s.h.messages = []*message{s.cast}
		s.made = &change{place: place{1, "x"}, span: at(20, 30)}
		return s
	}
	gets := func(p *party, during int, things ...any) {
		for _, thing := range things {
			switch thing := thing.(type) {
			case *message:
				p.got = append(p.got, receipt{message: thing, during: during})
			case *change:
				p.got = append(p.got, receipt{change: thing, during: during})
			}
		}
	}
	second := func(s *scene) *message {
		m := &message{from: s.ann, seq: 2, span: own(4, 31, 40)}
		s.h.messages = append(s.h.messages, m)
		return m
	}
	for _, tt := range []struct {
		name string
		make func(s *scene)
		want string // within the only fault; empty: none
	}{
		{"as it should be", func(s *scene) { gets(s.bob, 3, s.cast) }, ""},
		{"lost", func(s *scene) {}, "bob did not get cast 1"},
		{"twice", func(s *scene) { gets(s.bob, 3, s.cast, s.cast) }, "behind number 1"},
		{"in order", func(s *scene) { gets(s.bob, 3, s.cast, second(s)) }, ""},
		{"turned", func(s *scene) { gets(s.bob, 3, second(s), s.cast) }, "behind number 2"},
		{"to the sender", func(s *scene) { gets(s.bob, 3, s.cast); gets(s.ann, 3, s.cast) }, "its own"},

		{"nothing open", func(s *scene) { delete(s.bob.open, main); gets(s.bob, 3, s.cast) }, "no right"},
		{"not writable", func(s *scene) {
			s.ann.writable = func(place) bool { return false }
			gets(s.bob, 3, s.cast)
		}, "no right"},
		{"not writable, not got", func(s *scene) { s.ann.writable = func(place) bool { return false } }, ""},
		{"another place", func(s *scene) {
			s.bob.open = map[place]*toggle{{1, "side"}: {on: []span{own(2, 5, 10)}}}
			gets(s.bob, 3, s.cast)
		}, "no right"},

		{"opened meanwhile, got", func(s *scene) { s.bob.at(main).on = []span{own(2, 25, 35)}; gets(s.bob, 2, s.cast) }, ""},
		{"opened meanwhile, not got", func(s *scene) { s.bob.at(main).on = []span{own(2, 25, 35)} }, ""},
		{"opened later", func(s *scene) { s.bob.at(main).on = []span{own(2, 31, 35)}; gets(s.bob, 2, s.cast) }, "no right"},
		{"read before it was opened", func(s *scene) { s.bob.at(main).on = []span{own(9, 25, 35)}; gets(s.bob, 8, s.cast) }, "no right"},

		{"closed before", func(s *scene) { s.bob.at(main).off = []span{own(3, 11, 12)}; gets(s.bob, 4, s.cast) }, "no right"},
		{"closed meanwhile, got", func(s *scene) { s.bob.at(main).off = []span{own(3, 25, 35)}; gets(s.bob, 3, s.cast) }, ""},
		{"closed meanwhile, not got", func(s *scene) { s.bob.at(main).off = []span{own(3, 25, 35)} }, ""},
		{"closed meanwhile, got behind its IDLE", func(s *scene) { s.bob.at(main).off = []span{own(3, 25, 26)}; gets(s.bob, 4, s.cast) }, "no right"},
		{"closed and opened again", func(s *scene) {
			s.bob.at(main).off = []span{own(3, 11, 12)}
			s.bob.at(main).on = append(s.bob.at(main).on, own(4, 13, 14))
		}, "did not get"},
		{"taken away before", func(s *scene) { s.bob.at(main).off = []span{at(11, 19)}; gets(s.bob, 3, s.cast) }, "no right"},
		{"taken away meanwhile, got", func(s *scene) { s.bob.at(main).off = []span{at(11, 21)}; gets(s.bob, 3, s.cast) }, ""},
		{"taken away meanwhile, not got", func(s *scene) { s.bob.at(main).off = []span{at(11, 21)} }, ""},
		{"taken away while it was opened, got", func(s *scene) { s.bob.at(main).off = []span{at(8, 12)}; gets(s.bob, 3, s.cast) }, ""},
		{"taken away while it was opened, not got", func(s *scene) { s.bob.at(main).off = []span{at(8, 12)} }, ""},
		{"membership taken away while it was opened, got", func(s *scene) {
			s.bob.member[1].off, s.bob.at(main).off = []span{at(8, 12)}, []span{at(8, 12)}
			gets(s.bob, 3, s.cast)
		}, "no right"},
		{"membership taken away while it was opened, not got", func(s *scene) {
			s.bob.member[1].off, s.bob.at(main).off = []span{at(8, 12)}, []span{at(8, 12)}
		}, ""},
		{"membership of the sender taken away", func(s *scene) {
			s.ann.member[1].off, s.ann.at(main).off = []span{at(8, 12)}, []span{at(8, 12)}
			gets(s.bob, 3, s.cast)
		}, "no right"},
		{"taken away before it was opened", func(s *scene) { s.bob.at(main).off = []span{at(3, 4)} }, "did not get"},
		{"taken away later", func(s *scene) { s.bob.at(main).off = []span{at(30, 40)} }, "did not get"},
		{"taken away from the sender before", func(s *scene) { s.ann.at(main).off = []span{at(11, 19)}; gets(s.bob, 3, s.cast) }, "no right"},

		{"data for a peer", func(s *scene) { s.cast.to = s.bob; s.bob.open = nil; gets(s.bob, 3, s.cast) }, ""},
		{"data for a peer, lost", func(s *scene) { s.cast.to = s.bob }, "did not get data"},
		{"data for somebody else", func(s *scene) { s.cast.to = newParty("cyd"); gets(s.bob, 3, s.cast) }, "which is for cyd"},

		{"a change", func(s *scene) {
			gets(s.bob, 3, s.cast, s.made)
			gets(s.ann, 3, s.made)
			s.h.changes = []*change{s.made}
		}, ""},
		{"a change, lost", func(s *scene) {
			gets(s.bob, 3, s.cast)
			gets(s.ann, 3, s.made)
			s.h.changes = []*change{s.made}
		}, "bob did not get 1/x made"},
		{"a change, twice", func(s *scene) { gets(s.bob, 3, s.cast, s.made, s.made) }, "twice"},
		{"a change, no member", func(s *scene) { s.bob.member = nil; gets(s.bob, 3, s.cast, s.made) }, "neither member"},
		{"a change, no member any more", func(s *scene) {
			s.bob.member[1].off = []span{at(5, 6)}
			s.bob.open = nil
			gets(s.bob, 3, s.made)
		}, "neither member"},
		{"a change, member meanwhile", func(s *scene) {
			s.bob.member[1].off = []span{at(25, 35)}
			gets(s.bob, 3, s.cast)
			gets(s.ann, 3, s.made)
			s.h.changes = []*change{s.made}
		}, ""},
		{"a change, without a login", func(s *scene) {
			s.bob.login.off = []span{own(3, 11, 12)}
			gets(s.bob, 3, s.cast)
			gets(s.ann, 3, s.made)
			s.h.changes = []*change{s.made}
		}, ""},
		{"a change for a holder", func(s *scene) {
			s.bob.member = nil
			gets(s.bob, 3, s.cast, &change{place: main, gone: true, span: at(20, 30)})
		}, ""},
		{"gone, and it knew that it was there", func(s *scene) {
			s.h.changes = []*change{s.made, {place: s.made.place, gone: true, span: at(40, 41)}}
			s.ann.member = nil
			gets(s.bob, 3, s.cast, s.made)
		}, "bob did not get 1/x gone"},
		{"gone, and it knew nothing of it", func(s *scene) {
			s.h.changes = []*change{s.made, {place: s.made.place, gone: true, span: at(40, 41)}}
			s.ann.member = nil
			s.bob.member[1].on = []span{at(31, 32)}
			s.bob.at(main).on = nil
		}, ""},
		{"opened by who is no member any more", func(s *scene) {
			s.bob.member[1].off = []span{at(11, 12)}
			s.bob.open = map[place]*toggle{{1, "side"}: {on: []span{own(3, 13, 14)}}}
		}, "without being a member"},
		{"opened when it was being removed", func(s *scene) {
			s.bob.member[1].off = []span{at(11, 13)}
			s.bob.open = map[place]*toggle{{1, "side"}: {on: []span{own(3, 12, 14)}}}
		}, ""},
		{"changes, turned", func(s *scene) {
			gets(s.bob, 3, s.cast, &change{place: place{1, "y"}, span: at(31, 40)}, s.made)
		}, "1/x made (20 to 30) behind 1/y"},
		{"changes at once, turned", func(s *scene) {
			gets(s.bob, 3, s.cast, &change{place: place{1, "y"}, span: at(25, 40)}, s.made)
		}, ""},
		{"changes at once, in two orders", func(s *scene) {
			y := &change{place: place{1, "y"}, span: at(25, 40)}
			gets(s.bob, 3, s.cast, y, s.made)
			gets(s.ann, 3, s.made, y)
		}, "before 1/x made (20 to 30), ann behind it"},
		{"changes of two channels, turned", func(s *scene) {
			s.bob.member[2] = &toggle{on: []span{at(1, 2)}}
			gets(s.bob, 3, s.cast, &change{place: place{2, "y"}, span: at(31, 40)}, s.made)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene()
			tt.make(s)
			faults := s.h.judge()
			switch {
			case tt.want == "" && len(faults) > 0:
				t.Errorf("got %q", faults)
			case tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)):
				t.Errorf("got %q, want %q", faults, tt.want)
			}
		})
	}
}
