package tui

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// News tells a person what async frames say, a plain line each. It remembers
// names of what frames give by id: of channels, users and peers, so many of
// each that a host cannot fill the memory with them. The zero value is ready;
// its methods may be called from any goroutine.
type News struct {
	// guarded by mu
	mu       sync.Mutex
	me       wire.UserID
	channels map[wire.ChannelID]*channelNames
	users    map[wire.UserID]string
	peers    map[wire.SessionID]*peer
	may      func(command string) bool // nil: all
}

type channelNames struct {
	name    string // empty: not known
	subs    map[wire.SubID]string
	invited map[wire.UserID]struct{} // have not answered yet, as far as is known
}

// peer is another session.
type peer struct {
	wire.Peer      // all but Session may be missing
	present   bool // it has a sub-channel open
	linked    bool // there is a link, or a request of either side
	gone      bool // it has left; what was linked is still about to be told
}

// maxNames is how many channels, users and peers are remembered of each: more
// than one person deals with. One that is forgotten is shown by its id.
const maxNames = 1000

// maxShown is how much of a text from another client is shown, in bytes.
const maxShown = 4096

// Lines returns what an event says as lines of a terminal, without a line feed
// behind the last; nothing if it is of no interest. What other people have
// written cannot give orders to the terminal, nor look like a line of the
// client's own: it stands behind the name of its async id.
func (n *News) Lines(e client.Event) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := n.linesLocked(e)
	if e.Lost > 0 {
		lines = strings.TrimRight(fmt.Sprintf("* %d events were missed here\n%s", e.Lost, lines), "\n")
	}
	return lines
}

func (n *News) linesLocked(e client.Event) string {
	if line, ok := n.valueLocked(e); ok {
		if line == "" {
			return ""
		}
		return "* " + line
	}
	prefix := "[" + e.ID.String() + "] "
	if data, ok := e.Value.(*wire.PeerData); ok {
		prefix = "[P2P " + n.whoLocked(data.Src) + "] "
		e.Payload = data.Data
	}
	switch {
	case e.ID == wire.AsyncSysMsg && client.IsText(e.Type):
		return strings.TrimRight(Printable(e.Text()), "\n")
	case client.IsText(e.Type):
		return quoted(prefix, e.Payload)
	}
	return prefix + payload(e.Type, e.Payload)
}

// valueLocked says what a value means, if this package knows.
func (n *News) valueLocked(e client.Event) (line string, ok bool) {
	switch v := e.Value.(type) {
	case *wire.Account:
		n.me = v.User
		n.addUserLocked(v.User, v.Name)
		return fmt.Sprintf("you are %s, rank %d", word(v.Name), uint32(v.Rank)), true
	case *wire.UserRef: // a SYS_MSG says it, too
		return "", true
	case *wire.CommandInfo, *wire.CommandRef:
		return "", true
	case *wire.PeerStatus:
		return n.statusLocked(v), true
	case *wire.Peer:
		return n.peerLocked(e.Type, v), true
	case *wire.SessionRef:
		return n.linkLocked(e.Type, v.Session), true
	case *wire.Member:
		return n.memberLocked(e.ID, v), true
	case *wire.ChannelRef:
		line = n.channelLocked(v.Channel) + " is gone"
		delete(n.channels, v.Channel)
		return line, true
	case *wire.ChannelRenamed:
		line = n.channelLocked(v.Channel) + " is called " + word(v.Name) + " now"
		n.namesLocked(v.Channel).name = v.Name
		return line, true
	case *wire.SubAdded:
		n.namesLocked(v.Channel).subs[v.Sub] = v.Name
		return fmt.Sprintf("%s has a new sub-channel %s, for level %s", n.channelLocked(v.Channel), word(v.Name), v.Level), true
	case *wire.SubRef:
		line = n.subLocked(*v) + " is gone"
		delete(n.namesLocked(v.Channel).subs, v.Sub)
		return line, true
	case *wire.SubRenamed:
		line = n.subLocked(wire.SubRef{Channel: v.Channel, Sub: v.Sub}) + " is called " + word(v.Name) + " now"
		n.namesLocked(v.Channel).subs[v.Sub] = v.Name
		return line, true
	case *wire.MemberRemoved:
		return n.removedLocked(v), true
	case *wire.MemberLevel:
		line = fmt.Sprintf("%s level %s in %s now", n.subjectLocked(v.User, "have", "has"), v.Level, n.channelLocked(v.Channel))
		if v.User == n.me {
			line += "; what you had open there has been closed, open it again if you still may"
		}
		return line, true
	case *wire.SubLevel:
		return n.subLevelLocked(e.ID, v), true
	}
	return "", false
}

func (n *News) subLevelLocked(id wire.AsyncID, v *wire.SubLevel) string {
	sub, level := n.subLocked(wire.SubRef{Channel: v.Channel, Sub: v.Sub}), "some level"
	if v.Level != 0 { // not told by older hosts
		level = "level " + v.Level.String()
	}
	what := "is for " + level + " now"
	switch id {
	case wire.AsyncAddRdOnly:
		what = "is read-only for " + level + " now"
	case wire.AsyncRmRdOnly:
		what = "is no longer read-only for " + level
	}
	return sub + " " + what + "; it has been closed, open it again if you still may"
}

func (n *News) memberLocked(id wire.AsyncID, m *wire.Member) string {
	n.addUserLocked(m.User, m.Name)
	names := n.namesLocked(m.Channel)
	names.name = m.ChannelName
	names.invite(m.User, id == wire.AsyncInvitedToCh)
	name := word(m.ChannelName)
	switch {
	case id != wire.AsyncInvitedToCh:
		return fmt.Sprintf("%s a member of %s now, level %s", n.subjectLocked(m.User, "are", "is"), name, m.Level)
	case m.User == n.me:
		return n.invitedLocked(m.ChannelName)
	}
	return n.subjectLocked(m.User, "are", "is") + " invited to " + name
}

// removedLocked is RM_CH_MEMBER: a member has gone, or an invite.
func (n *News) removedLocked(v *wire.MemberRemoved) string {
	what := " no longer in "
	if names := n.channels[v.Channel]; names != nil {
		if _, invited := names.invited[v.User]; invited {
			what = " no longer invited to "
			names.invite(v.User, false)
		}
	}
	return n.subjectLocked(v.User, "are", "is") + what + n.channelLocked(v.Channel)
}

// invite notes whether a user has an invite that waits.
func (c *channelNames) invite(user wire.UserID, waits bool) {
	if waits {
		remember(&c.invited, user, struct{}{})
	} else {
		delete(c.invited, user)
	}
}

// invited tells a person of an invite, and how to answer it.
func (n *News) invitedLocked(channel string) string {
	name, argument := word(channel), ""
	if !n.mayLocked("accept_ch") {
		return "you are invited to " + name + ", but may not run accept_ch; an administrator can allow it (add_ranked_cmd)"
	}
	if name == channel { // it can be typed
		argument = " -ch_name " + client.QuoteValue(channel)
	}
	return "you are invited to " + name + ": accept_ch" + argument + " joins, decline_ch" + argument + " declines"
}

// Invites tells of the invites in the output of ls_chs that wait for an answer,
// a line each; without a line feed behind the last.
func (n *News) Invites(text string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for row := range tableRows(text) {
		if name := row["channel_name"]; row["pending_invite"] == "1" && name != "" {
			lines = append(lines, "* "+n.invitedLocked(name))
		}
	}
	return strings.Join(lines, "\n")
}

// Advise tells which commands the person may run, so that no others are
// advised; until then it is all of them. may is called while an event is told.
func (n *News) Advise(may func(command string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.may = may
}

func (n *News) mayLocked(command string) bool { return n.may == nil || n.may(command) }

// statusLocked is PEER_STAT: a peer came, changed what it has open, or left.
func (n *News) statusLocked(v *wire.PeerStatus) string {
	who := n.whoLocked(v.Session)
	p := n.sessionLocked(v.Session)
	was := p.present
	var open []string
	for _, ref := range v.Open.Open() {
		open = append(open, n.subLocked(ref))
	}
	p.present, p.gone = !v.Disconnected && len(open) > 0, false
	switch {
	case v.Disconnected:
		if p.gone = p.linked; !p.gone {
			delete(n.peers, v.Session)
		}
		return who + " has left"
	case !p.present:
		return who + " has nothing open any more"
	case was:
		return who + " is now in " + strings.Join(open, ", ")
	}
	return who + " is here, in " + strings.Join(open, ", ")
}

// linkLocked is P2P_OPEN or P2P_CLOSE.
func (n *News) linkLocked(t wire.TypeID, id wire.SessionID) string {
	who := n.whoLocked(id)
	if t == wire.P2POpen {
		n.sessionLocked(id).linked = true
		return who + " accepts the peer link: to_peer " + n.typedLocked(id) + " TEXT sends to it"
	}
	if p := n.peers[id]; p != nil {
		p.linked = false
		if p.gone {
			delete(n.peers, id)
		}
	}
	return who + " has closed the peer link, or declines it"
}

// peerLocked is who a peer is: an answer, a question or a request for a link.
func (n *News) peerLocked(t wire.TypeID, v *wire.Peer) string {
	before := n.whoLocked(v.Session)
	p := n.sessionLocked(v.Session)
	known, renamed := p.Name != "", p.Name != v.Name || p.Display != v.Display
	p.Peer, p.gone = *v, false
	n.addUserLocked(v.User, v.Name)
	who := n.whoLocked(v.Session)
	switch {
	case t == wire.P2PRequest:
		p.linked = true
		typed := n.typedLocked(v.Session)
		if !n.mayLocked("p2p_open") {
			return who + " asks for a peer link, but you may not run p2p_open; an administrator can allow it (add_ranked_cmd)"
		}
		return who + " asks for a peer link: p2p_open " + typed + " accepts, p2p_close " + typed + " declines"
	case known && renamed:
		return before + " is now " + who
	case t == wire.PingPeers && p.present && !known:
		return before + " is " + who
	case t == wire.PingPeers:
		return who + " asks who is here"
	}
	p.present = true
	return who + " is here, with " + strconv.Quote(v.App)
}

// Learn takes names from the output of ls_chs, find_ch or ls_open_chs: tables
// with the columns channel_id and channel_name, and perhaps sub_channel_id and
// sub_channel_name. Text of any other form teaches nothing.
func (n *News) Learn(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for row := range tableRows(text) {
		id, err := strconv.ParseUint(row["channel_id"], 10, 64)
		name := row["channel_name"]
		if err != nil || id == 0 || name == "" {
			continue
		}
		names := n.namesLocked(wire.ChannelID(id))
		names.name = name
		if waits := row["pending_invite"]; waits != "" {
			names.invite(n.me, waits == "1")
		}
		sub, err := strconv.ParseUint(row["sub_channel_id"], 10, 8)
		if name := row["sub_channel_name"]; err == nil && name != "" {
			names.subs[wire.SubID(sub)] = name
		}
	}
}

// Peer returns the session that a person names: by its id, by the beginning of
// it that is shown, or by the user. Of several sessions of a user those count
// that the person can mean: with linked those that have a link or a request,
// otherwise those that have a sub-channel open. The error says what to type.
func (n *News) Peer(name string, linked bool) (wire.SessionID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, err := hex.DecodeString(name); err == nil && len(id) == wire.SessionIDSize {
		return wire.SessionID(id), nil
	}
	// Ids come first: nobody can choose one to be taken for somebody else.
	found := n.matchesLocked(func(p *peer) bool {
		return len(name) >= 2*shortID && strings.HasPrefix(p.Session.String(), strings.ToLower(name))
	})
	if len(found) == 0 {
		found = n.matchesLocked(func(p *peer) bool { return p.Name != "" && strings.EqualFold(p.Name, name) })
	}
	meant := slices.DeleteFunc(slices.Clone(found), func(p *peer) bool { return linked && !p.linked || !linked && !p.present })
	if len(meant) > 0 {
		found = meant
	}
	switch len(found) {
	case 0:
		return wire.SessionID{}, fmt.Errorf("nobody here is known as %s; ping_peers shows who shares an active sub-channel with you", strconv.Quote(name))
	case 1:
		return found[0].Session, nil
	}
	var ids []string
	for _, p := range found {
		ids = append(ids, p.Session.String())
	}
	slices.Sort(ids)
	const most = 6
	if more := len(ids) - most; more > 0 {
		ids = append(ids[:most], fmt.Sprintf("%d more", more))
	}
	return wire.SessionID{}, fmt.Errorf("%s has %d sessions; give the id of one: %s", word(found[0].Name), len(found), strings.Join(ids, ", "))
}

func (n *News) matchesLocked(match func(*peer) bool) (found []*peer) {
	for _, p := range n.peers {
		if match(p) {
			found = append(found, p)
		}
	}
	return found
}

// Linked notes that the person has asked a session for a link or has accepted
// its request, or has closed what there was.
func (n *News) Linked(id wire.SessionID, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sessionLocked(id).linked = on
}

// typedLocked is what a person can type for a session.
func (n *News) typedLocked(id wire.SessionID) string {
	if p := n.peers[id]; p != nil && p.Name != "" && word(p.Name) == p.Name {
		return p.Name
	}
	return hex.EncodeToString(id[:shortID])
}

// remember adds to a map of what is known; when there is no room, something
// else is forgotten.
func remember[K comparable, V any](known *map[K]V, key K, value V) {
	if *known == nil {
		*known = make(map[K]V)
	}
	if _, there := (*known)[key]; !there && len(*known) >= maxNames {
		for other := range *known {
			delete(*known, other)
			break
		}
	}
	(*known)[key] = value
}

func (n *News) addUserLocked(id wire.UserID, name string) {
	if !id.IsZero() && name != "" {
		remember(&n.users, id, name)
	}
}

// namesLocked returns what is known of a channel, to be added to.
func (n *News) namesLocked(id wire.ChannelID) *channelNames {
	names := n.channels[id]
	if names == nil {
		names = &channelNames{subs: make(map[wire.SubID]string)}
		remember(&n.channels, id, names)
	}
	return names
}

// sessionLocked returns what is known of a session, to be added to.
func (n *News) sessionLocked(id wire.SessionID) *peer {
	p := n.peers[id]
	if p == nil {
		p = &peer{Peer: wire.Peer{Session: id}}
		remember(&n.peers, id, p)
	}
	return p
}

// whoLocked names a session: by its user, if that is known.
func (n *News) whoLocked(id wire.SessionID) string {
	p := n.peers[id]
	switch {
	case p == nil || p.Name == "":
		return "session " + hex.EncodeToString(id[:shortID])
	case p.Display == "" || p.Display == p.Name:
		return word(p.Name)
	}
	return word(p.Name) + " " + strconv.Quote(p.Display)
}

// shortID is how much of an id a person sees, in bytes.
const shortID = 4

// subjectLocked names a user with the verb that goes with it.
func (n *News) subjectLocked(id wire.UserID, you, other string) string {
	if id == n.me && !id.IsZero() {
		return "you " + you
	}
	if name, known := n.users[id]; known {
		return word(name) + " " + other
	}
	return "user " + hex.EncodeToString(id[:shortID]) + " " + other
}

func (n *News) channelLocked(id wire.ChannelID) string {
	if names := n.channels[id]; names != nil && names.name != "" {
		return "channel " + word(names.name)
	}
	return fmt.Sprintf("channel #%d", uint64(id))
}

// subLocked names a sub-channel: channel/sub-channel, by id where the name is
// not known.
func (n *News) subLocked(ref wire.SubRef) string {
	channel, sub := fmt.Sprintf("#%d", uint64(ref.Channel)), fmt.Sprintf("#%d", uint8(ref.Sub))
	if names := n.channels[ref.Channel]; names != nil {
		if names.name != "" {
			channel = word(names.name)
		}
		if name := names.subs[ref.Sub]; name != "" {
			sub = word(name)
		}
	}
	return channel + "/" + sub
}

// word is a name within a line: as it is, or in quotes and with escapes where
// it could be mistaken for something else.
func word(name string) string {
	if name == "" || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return r == '"' || unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// quoted is what somebody has written, each line of it behind the prefix.
func quoted(prefix string, text []byte) string {
	shown := wire.CutText(string(text[:min(len(text), maxShown+utf8.UTFMax)]), maxShown)
	rest := len(text) - len(shown)
	lines := strings.Split(strings.TrimRight(Printable(shown), "\n"), "\n")
	if rest > 0 {
		lines = append(lines, fmt.Sprintf("(%d bytes more)", rest))
	}
	return prefix + strings.Join(lines, "\n"+prefix)
}

// payload is a frame that is no text, in short.
func payload(t wire.TypeID, p []byte) string {
	return fmt.Sprintf("%v, %d bytes", t, len(p))
}
