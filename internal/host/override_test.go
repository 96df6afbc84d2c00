package host_test

import (
	"slices"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// TestOverrideEndsWithItsCommand takes the command that sets the owner override
// from a session which has it set, in all ways that there are: when the call
// that does so has ended, the session has what its own level gives it.
func TestOverrideEndsWithItsCommand(t *testing.T) {
	for what, lines := range map[string]struct{ take, back string }{
		"the rank of the user":    {"set_user_rank -user hank -rank 4", "set_user_rank -user hank -rank 3"},
		"the rank of the command": {"rm_ranked_cmd -command ch_owner_override", "add_ranked_cmd -command ch_owner_override -rank 3"},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStage(t)
			s.user("hank", 3)
			s.enter("anna1", "olga1", "hank1", "hank2")
			s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Talk", "set_active_flag -ch_name Lobby -sub_name Talk -state 1",
				"add_sub_ch -ch_name Lobby -sub_name Market", "set_sub_ch_level -ch_name Lobby -sub_name Market -level 5",
				"add_rdonly_flag -ch_name Lobby -sub_id 1 -level 5")
			for _, command := range []string{"open_sub_ch", "ls_open_chs", "cast", "ls_ch_members"} {
				s.quiet("anna1", "add_ranked_cmd -command "+command+" -rank 9")
			}
			s.quiet("anna1", "add_ranked_cmd -command ch_owner_override -rank 3")
			s.quiet("olga1", "open_sub_ch -ch_name Lobby -sub_name Talk", "open_sub_ch -ch_name Lobby -sub_name Market")
			s.quiet("hank1", "ch_owner_override -state 1", "open_sub_ch -ch_name Lobby -sub_name Talk",
				"open_sub_ch -ch_name Lobby -sub_name Market")
			s.quiet("hank2", "open_sub_ch -ch_name Lobby -sub_name Market") // without the override
			heard := func(n byte) bare.Frame { return bare.At(bare.CastID, bare.Bytes, n) }
			s.frame("hank1", "I1", bare.Bytes, "cast", []byte{1}, to("olga1 hank2", heard(1)))

			// What has nothing to do with it changes nothing.
			s.quiet("anna1", "set_user_rank -user hank -rank 2", "add_ranked_cmd -command find_ch -rank 5", "set_user_rank -user hank -rank 3")
			s.frame("hank1", "I1", bare.Bytes, "cast", []byte{2}, to("olga1 hank2", heard(2)))

			command, arguments, _ := strings.Cut(lines.take, " ")
			if got := s.clients["anna1"].Call(command, arguments); got[len(got)-1].Code() != 1 {
				t.Fatalf("%s: %v", lines.take, got)
			}
			olga := s.clients["olga1"]
			olga.Fence()
			want := stat(s.id("hank1"), open{}, open{1, 1})
			if got := slices.DeleteFunc(olga.SoFar(), listed); len(got) != 1 || got[0].String() != want.String() {
				t.Errorf("peers get %v, want %v", got, want)
			}
			for _, name := range s.names { // what else the call has told
				s.clients[name].Fence()
				s.clients[name].SoFar()
			}
			s.frame("olga1", "I1", bare.Bytes, "cast", []byte{3}, to("hank1 hank2", heard(3))) // where everybody may listen
			s.frame("hank1", "I1", bare.Bytes, "cast", []byte{4})
			if got := s.do("hank1", "I1 text", "my_info"); !strings.Contains(got, "owner override: no\n") {
				t.Errorf("my_info: %s", got)
			}
			if got := s.do("hank1", "I1 text", "ls_open_chs"); strings.Contains(got, "Talk") || !strings.Contains(got, "Market") {
				t.Errorf("ls_open_chs: %s", got)
			}
			s.do("hank1", "E3", "ls_ch_members -ch_name Lobby")

			// It does not come back with the command.
			s.quiet("anna1", lines.back)
			s.frame("hank1", "I1", bare.Bytes, "cast", []byte{5})
			s.quiet("hank1", "ch_owner_override -state 1")
			s.frame("hank1", "I1", bare.Bytes, "cast", []byte{6}, to("olga1 hank2", heard(6)))
		})
	}
}

// TestOverrideAgainstItsEnd sets the override while its command is taken away:
// whatever comes first, it is not set afterwards.
func TestOverrideAgainstItsEnd(t *testing.T) {
	s := newStage(t)
	s.user("hank", 3)
	s.enter("anna1", "hank1")
	anna, hank := s.clients["anna1"], s.clients["hank1"]
	for round := range 60 {
		s.quiet("anna1", "add_ranked_cmd -command ch_owner_override -rank 3")
		override := hank.Cmd("ch_owner_override")
		set := bare.Frame{Type: bare.Text, Cmd: override, Branch: 1, Payload: []byte("-state 1")}.Raw()
		remove := bare.Frame{Type: bare.Text, Cmd: anna.Cmd("rm_ranked_cmd"), Branch: 1, Payload: []byte("-command ch_owner_override")}.Raw()
		if round%2 == 0 {
			hank.Write(set)
			anna.Write(remove)
		} else {
			anna.Write(remove)
			hank.Write(set)
		}
		if got := anna.UntilIdle(anna.Cmd("rm_ranked_cmd"), 1); got[len(got)-1].Code() != 1 {
			t.Fatalf("rm_ranked_cmd: %v", got)
		}
		hank.UntilIdle(override, 1)
		if got := s.do("hank1", "I1 text", "my_info"); !strings.Contains(got, "owner override: no\n") {
			t.Fatalf("round %d: my_info: %s", round, got)
		}
		s.quiet("hank1")
	}
}
