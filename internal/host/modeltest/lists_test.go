package modeltest

import (
	"fmt"
	"slices"
	"strings"

	"mrci.dev/mrci/wire"
)

// What the host lists must be what the model has. Of a table only the cells
// count: two lines of header, rows, and behind an empty line how many there
// are (commands 1.7).

func rows(text []byte) [][]string {
	var table [][]string
	lines := strings.Split(strings.Trim(string(text), "\n"), "\n")
	for _, line := range lines[min(2, len(lines)):] {
		if line == "" {
			break
		}
		table = append(table, strings.Fields(line))
	}
	return table
}

// same compares rows in any order.
func same(got, want [][]string) string {
	join := func(table [][]string) []string {
		lines := make([]string, len(table))
		for i, row := range table {
			lines[i] = strings.Join(row, " ")
		}
		slices.Sort(lines)
		return lines
	}
	if g, w := join(got), join(want); !slices.Equal(g, w) {
		return fmt.Sprintf("rows %q, want %q", g, w)
	}
	return ""
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// listing is a command that lists what the model has.
func (w *world) listing(c *call, want [][]string) wire.ReturnCode {
	c.text(func(text []byte) string { return same(rows(text), want) })
	return done
}

// listOpen is ls_open_chs (commands 7).
func (w *world) listOpen(c *call) wire.ReturnCode {
	var want [][]string
	for _, o := range c.by.open {
		if o.ref.Channel == 0 {
			continue
		}
		r := w.roomByID(o.ref.Channel)
		want = append(want, []string{
			r.name, r.subs[o.ref.Sub].name, fmt.Sprint(uint64(r.id)), fmt.Sprint(uint8(o.ref.Sub)), bit(!o.writable),
		})
	}
	return w.listing(c, want)
}

// listPeers is ls_p2p (commands 8): pending in both directions.
func (w *world) listPeers(c *call) wire.ReturnCode {
	var want [][]string
	for _, peer := range w.connected() {
		linked := w.linked[[2]*session{c.by, peer}]
		if linked || w.asked[[2]*session{c.by, peer}] || w.asked[[2]*session{peer, c.by}] {
			want = append(want, []string{peer.id.String(), bit(!linked)})
		}
	}
	return w.listing(c, want)
}

// listChannels is ls_chs (commands 6): the caller's channels and invites.
func (w *world) listChannels(c *call) wire.ReturnCode {
	var want [][]string
	for _, r := range w.rooms {
		level, invited := r.members[c.by.user], r.invited[c.by.user]
		if invited {
			level = wire.Regular
		}
		if level != 0 {
			want = append(want, []string{fmt.Sprint(uint64(r.id)), r.name, bit(invited), fmt.Sprint(uint8(level))})
		}
	}
	return w.listing(c, want)
}

// listMembers is ls_ch_members (commands 6): for members; override 1 for
// members who hold it in a session.
func (w *world) listMembers(c *call, ch string) wire.ReturnCode {
	r := w.room(ch)
	if r == nil || r.level(c.by) > wire.Regular {
		return refused
	}
	var want [][]string
	row := func(u *user, invited bool, level wire.Level) {
		held := slices.ContainsFunc(w.of(u), func(s *session) bool { return s.override })
		cells := []string{fmt.Sprint(uint64(r.id)), u.name}
		if u.display != "" {
			cells = append(cells, strings.Fields(u.display)...)
		}
		want = append(want, append(cells, u.id.String(), bit(invited), fmt.Sprint(uint8(level)), bit(held && !invited)))
	}
	for u, level := range r.members {
		row(u, false, level)
	}
	for u := range r.invited {
		row(u, true, wire.Regular)
	}
	return w.listing(c, want)
}

// listSubs is ls_sub_chs (commands 6): who is no member sees the public ones.
func (w *world) listSubs(c *call, ch string) wire.ReturnCode {
	r := w.room(ch)
	if r == nil {
		return refused
	}
	var want [][]string
	for id, s := range r.subs {
		if r.level(c.by) <= wire.Regular || s.lowest == wire.Public {
			want = append(want, []string{fmt.Sprint(uint8(id)), s.name, fmt.Sprint(uint8(s.lowest)), bit(s.active)})
		}
	}
	return w.listing(c, want)
}

// myInfoCmd is my_info (commands 2): who the session is.
func (w *world) myInfoCmd(c *call) wire.ReturnCode {
	s := c.by
	lines := []string{"session id: " + s.id.String()}
	if u := s.user; u != nil {
		override := "no"
		if s.override {
			override = "yes"
		}
		lines = append(lines, "user name: "+u.name, "display name: "+u.display, "user id: "+u.id.String(), "e-mail: "+u.email,
			"owner override: "+override, fmt.Sprintf("host rank: %d", u.rank))
	}
	anonymous := s.user == nil
	c.text(func(text []byte) string {
		got := string(text)
		for _, line := range lines {
			if !strings.Contains(got, line+"\n") {
				return fmt.Sprintf("my_info says %q, without %q", got, line)
			}
		}
		if anonymous && strings.Contains(got, "user name: ") {
			return fmt.Sprintf("my_info says %q without a login", got)
		}
		return ""
	})
	return done
}
