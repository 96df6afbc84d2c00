package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/client/clienttest"
	"mrci.dev/mrci/internal/tui"
	"mrci.dev/mrci/wire"
)

// terminal is what a person sees.
type terminal struct {
	mu      sync.Mutex
	text    string
	seen    int // text[:seen] has been waited for
	written chan struct{}
}

func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(p)
	select {
	case s.written <- struct{}{}:
	default:
	}
	return len(p), nil
}

// expect waits until the text stands behind what was waited for before.
func (s *terminal) expect(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	for {
		s.mu.Lock()
		rest := s.text[s.seen:]
		if i := strings.Index(rest, text); i >= 0 {
			s.seen += i + len(text)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		select {
		case <-s.written:
		case <-ctx.Done():
			t.Fatalf("%q does not come; there is %q", text, rest)
		}
	}
}

// startShell lets a person type commands for a host. prepare may change the
// shell before it begins.
func startShell(t *testing.T, ctx context.Context, h *clienttest.Host, prepare ...func(*shell)) (keys io.WriteCloser, out *terminal, ended <-chan error) {
	t.Helper()
	typed, keys := io.Pipe()
	out = &terminal{written: make(chan struct{}, 1)}
	sh := &shell{
		app:    &app{stdin: typed, stdout: out, stderr: out, getenv: func(string) string { return "" }},
		input:  tui.NewInput(typed),
		person: true,
		screen: &screen{out: out},
	}
	l, err := sh.app.open(ctx, h.Addr, sessionFlags{PasswordFD: -1, NewPasswordFD: -1}, sh.input, wire.ExtSchema, sh.event)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	sh.link = l
	sh.news.Advise(sh.offered)
	for _, f := range prepare {
		f(sh)
	}
	end := make(chan error, 1)
	go func() { end <- sh.loop(ctx) }()
	return keys, out, end
}

func command(name string, run func(i *clienttest.Instance) wire.ReturnCode) clienttest.Command {
	return clienttest.Command{Info: wire.CommandInfo{Name: name}, Run: run}
}

// A person gets news while a question of a command stands, which is shown again
// below, and names for ids without having asked for them.
func TestConnectShowsNews(t *testing.T) {
	noLeaks(t)
	id := wire.SessionID{1}
	status := func(i *clienttest.Instance) {
		i.SendValue(wire.PeerStat, wire.CmdID(wire.AsyncLimitedCast), 0, &wire.PeerStatus{Session: id, Open: wire.SubList{{Channel: 5, Sub: 2}}})
	}
	asked := make(chan struct{})
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("open_sub_ch", func(i *clienttest.Instance) wire.ReturnCode { status(i); return wire.NoErrors }),
		command("ls_open_chs", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text("\nchannel_name    sub_channel_name    channel_id    ")
			i.Text("sub_channel_id\n-------         -------             -------       -------\nnews            main                5             2\n")
			return wire.NoErrors
		}),
		command("ping_peers", func(i *clienttest.Instance) wire.ReturnCode {
			i.SendValue(wire.PeerInfo, wire.CmdID(wire.AsyncLimitedCast), 0, &wire.Peer{Session: id, Name: "ann", App: "app"})
			return wire.NoErrors
		}),
		command("ask", func(i *clienttest.Instance) wire.ReturnCode {
			i.Reply(wire.PromptText, []byte("First line.\nname?"))
			<-asked
			i.Send(wire.Text, wire.CmdID(wire.AsyncCast), 0, []byte("hello\a\n"))
			status(i)
			for f := range i.In {
				i.Text("got " + string(f.Payload) + "\n")
				return wire.NoErrors
			}
			return 0
		}),
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys, out, ended := startShell(t, ctx, h)

	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "open_sub_ch -ch_name news -sub_name main")
	// By its ids or by the names, which are asked for at the same time.
	out.expect(t, ctx, "session 01000000 is here, in ")
	out.expect(t, ctx, "* ann is here, with \"app\"\n")
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "ask")
	out.expect(t, ctx, "First line.\nname? ")
	close(asked)
	out.expect(t, ctx, "\r\x1b[K[CAST] hello\\x07\nname? \r\x1b[K* ann is now in news/main\nname? ")
	fmt.Fprintln(keys, "bob")
	out.expect(t, ctx, "got bob\n")
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "exit")
	if err := <-ended; err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	keys.Close()
	if strings.Contains(out.text, "-------") {
		t.Errorf("what the client asks for itself is shown: %q", out.text)
	}
}

// What a person has typed is seen again below news, but for what is hidden, and
// is sent as a whole, however long it is.
func TestConnectKeepsWhatIsTyped(t *testing.T) {
	noLeaks(t)
	asked, cast := make(chan struct{}), make(chan struct{})
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("ask", func(i *clienttest.Instance) wire.ReturnCode {
			i.Reply(wire.PrivText, []byte("secret?"))
			<-asked
			i.Send(wire.Text, wire.CmdID(wire.AsyncCast), 0, []byte("two"))
			for f := range i.In {
				i.Text(fmt.Sprintf("got %d bytes\n", len(f.Payload)))
				return wire.NoErrors
			}
			return 0
		}),
		command("later", func(i *clienttest.Instance) wire.ReturnCode {
			go func() {
				<-cast
				i.Send(wire.Text, wire.CmdID(wire.AsyncCast), 0, []byte("one"))
			}()
			return wire.NoErrors
		}),
		command("count", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text(fmt.Sprintf("%d bytes\n", len(i.First.Payload)))
			return wire.NoErrors
		}),
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys, out, ended := startShell(t, ctx, h, func(sh *shell) { sh.edit(func() int { return 20 }) })

	out.expect(t, ctx, "> ")
	io.WriteString(keys, "later\r")
	out.expect(t, ctx, "\r\x1b[K> later\r\n> ")
	io.WriteString(keys, "count half typ")
	out.expect(t, ctx, "> count half typ")
	close(cast)
	out.expect(t, ctx, "\r\x1b[K[CAST] one\r\n> count half typ")
	io.WriteString(keys, "o\x7fed"+strings.Repeat("x", 5000))
	out.expect(t, ctx, "\r\x1b[K> xxxxx")
	io.WriteString(keys, "\r")
	out.expect(t, ctx, "\r\x1b[K> count half typedxxxxx")
	out.expect(t, ctx, "x\r\n5010 bytes\r\n> ")

	io.WriteString(keys, "ask\r")
	out.expect(t, ctx, "secret? ")
	io.WriteString(keys, "hush")
	out.expect(t, ctx, "\r\x1b[Ksecret? ") // the keys have been read
	close(asked)
	out.expect(t, ctx, "\r\x1b[K[CAST] two\r\nsecret? ")
	io.WriteString(keys, "!\r")
	out.expect(t, ctx, "\r\ngot 5 bytes\r\n> ")
	io.WriteString(keys, "exit\r")
	if err := <-ended; err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	keys.Close()
	if strings.Contains(out.text, "hush") {
		t.Errorf("what is hidden is shown: %q", out.text)
	}
}

// A person names peers; the host gets their session ids.
func TestConnectNamesPeers(t *testing.T) {
	noLeaks(t)
	ann := wire.SessionID{0xa1, 0xb2, 0xc3, 0xd4, 27: 1}
	cyd := wire.SessionID{0xc1, 0xd2}
	got := make(chan string, 1) // the first frame of a call
	call := func(name, io string) clienttest.Command {
		c := command(name, func(i *clienttest.Instance) wire.ReturnCode {
			got <- fmt.Sprintf("%s %v %q", name, i.First.Type, i.First.Payload)
			return wire.NoErrors
		})
		c.Info.IO = io
		return c
	}
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		call("p2p_request", "[session_id]/[]"), call("p2p_open", "[session_id]/[]"), call("p2p_close", "[session_id]/[]"), call("to_peer", "[any]/[]"),
		call("poke", "[session_id]/[]"), // has nothing to do with links
		command("meet", func(i *clienttest.Instance) wire.ReturnCode {
			i.SendValue(wire.PeerInfo, wire.CmdID(wire.AsyncLimitedCast), 0, &wire.Peer{Session: ann, Name: "ann", App: "app"})
			for _, id := range []wire.SessionID{cyd, {0xc3}} {
				i.SendValue(wire.PeerInfo, wire.CmdID(wire.AsyncLimitedCast), 0, &wire.Peer{Session: id, Name: "cyd", App: "app"})
			}
			return wire.NoErrors
		}),
		command("refuse", func(i *clienttest.Instance) wire.ReturnCode {
			i.Reply(wire.Err, []byte("Missing -x.\n"))
			return wire.InvalidParams
		}),
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys, out, ended := startShell(t, ctx, h)
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "meet")
	for _, name := range []string{"ann", "cyd", "cyd"} { // a prompt may come between them
		out.expect(t, ctx, "* "+name+" is here, with \"app\"\n")
	}
	id := string(ann[:])
	for _, tt := range []struct{ typed, shown, sent string }{
		{"p2p_request ann", "", fmt.Sprintf("p2p_request SESSION_ID %q", id)},
		{"P2P_OPEN  a1b2c3d4 ", "", fmt.Sprintf("p2p_open SESSION_ID %q", id)},
		{"to_peer ann  hello  you", "", fmt.Sprintf("to_peer TEXT %q", id+"hello  you")},
		{"to_peer ann", "", fmt.Sprintf("to_peer TEXT %q", id)},
		{"p2p_close " + ann.String(), "", fmt.Sprintf("p2p_close SESSION_ID %q", id)},
		{"poke " + cyd.String(), "", fmt.Sprintf("poke SESSION_ID %q", cyd[:])},
		{"p2p_open cyd", "mrci: cyd has 2 sessions; give the id of one: c1d2", ""},
		{"p2p_request bob", `mrci: nobody here is known as "bob"; ping_peers shows who shares an active sub-channel with you` + "\n", ""},
		{"p2p_request", "mrci: whom? Type p2p_request NAME, with", ""},
		{"to_peer", "mrci: whom? Type to_peer NAME TEXT, with", ""},
		{"p2p_open ann bob", "mrci: p2p_open takes one peer; type p2p_open NAME, with", ""},
		{"help to_peer", "Here: to_peer NAME TEXT, with the user name or the session id of somebody who is here.\n", ""},
		{"refuse", "Missing -x.\n* refuse ended: INVALID_PARAMS; help refuse explains it\n", ""},
	} {
		out.expect(t, ctx, "> ")
		fmt.Fprintln(keys, tt.typed)
		if tt.sent == "" {
			out.expect(t, ctx, tt.shown)
			continue
		}
		select {
		case sent := <-got:
			if sent != tt.sent {
				t.Errorf("%s: the host got %s, want %s", tt.typed, sent, tt.sent)
			}
		case <-ctx.Done():
			t.Fatalf("%s: the host got nothing, want %s", tt.typed, tt.sent)
		}
	}
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "exit")
	if err := <-ended; err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	keys.Close()
}

// A person is told where casts go nowhere.
func TestConnectTellsOfCasts(t *testing.T) {
	noLeaks(t)
	rows := make(chan string, 1)
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("cast", func(*clienttest.Instance) wire.ReturnCode { return wire.NoErrors }),
		command("open_sub_ch", func(*clienttest.Instance) wire.ReturnCode { return wire.NoErrors }),
		command("ls_open_chs", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text("\nchannel_name    sub_channel_name    read_only\n-------         -------             -------\n" + <-rows)
			return wire.NoErrors
		}),
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys, out, ended := startShell(t, ctx, h)
	const listening, writing = "news            main                1\n", "news            talk                0\n"
	for _, tt := range []struct{ typed, rows, shown string }{
		{"cast hello", "", "* nobody gets that: you have no sub-channel open in which you may cast; open_sub_ch opens one\n> "},
		{"open_sub_ch x", listening, "* you may listen in news/main, but not cast\n> "},
		{"cast hello", listening, "* nobody gets that"},
		{"cast hello", listening + writing, "> "},
	} {
		rows <- tt.rows
		fmt.Fprintln(keys, tt.typed)
		out.expect(t, ctx, tt.shown)
	}
	fmt.Fprintln(keys, "exit")
	if err := <-ended; err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	keys.Close()
	if n := strings.Count(out.text, "nobody gets that"); n != 2 {
		t.Errorf("told %d times that nobody gets it: %q", n, out.text)
	}
}

// Invites that wait are told at the login, which a listing that nobody sees
// shows; the end of a login is told as well.
func TestConnectTellsOfInvites(t *testing.T) {
	noLeaks(t)
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("auth", func(*clienttest.Instance) wire.ReturnCode { return wire.NoErrors }),
		command("logout", func(*clienttest.Instance) wire.ReturnCode { return wire.NoErrors }),
		command("accept_ch", func(*clienttest.Instance) wire.ReturnCode { return wire.NoErrors }),
		command("ls_chs", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text("channel_id    channel_name    pending_invite    access_level\n" +
				"-------       -------         -------           -------\n" +
				"5             chess           1                 4\n\n1 row.\n")
			return wire.NoErrors
		}),
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys, out, ended := startShell(t, ctx, h)
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "auth -user ann")
	out.expect(t, ctx, "* you are invited to chess: accept_ch -ch_name chess joins, decline_ch -ch_name chess declines\n")
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "logout")
	out.expect(t, ctx, "You are logged out.\n")
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "exit")
	if err := <-ended; err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	keys.Close()
	if strings.Contains(out.text, "-------") {
		t.Errorf("what the client asks for itself is shown: %q", out.text)
	}
}

// A person who types a command that is not offered reads what to do about it.
func TestConnectNoSuchCommand(t *testing.T) {
	noLeaks(t)
	logout := command("logout", func(*clienttest.Instance) wire.ReturnCode { return wire.NoErrors })
	for _, tt := range []struct {
		name     string
		commands []clienttest.Command
		typed    string
		shown    string
	}{
		{"not logged in", nil, "cast hello", `mrci: no command "cast"; you are not logged in, auth -user NAME does that`},
		{"logged in", []clienttest.Command{logout}, "cast hello", `mrci: no command "cast"; help lists those that you may run`},
		{"mistyped", []clienttest.Command{logout}, "loguot", `mrci: no command "loguot"; nearest: logout`},
		{"help", []clienttest.Command{logout}, "help cast", `mrci: no command "cast"; help lists those that you may run`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := clienttest.Start(t, clienttest.Options{Commands: tt.commands})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			keys, out, ended := startShell(t, ctx, h)
			out.expect(t, ctx, "> ")
			fmt.Fprintln(keys, tt.typed)
			out.expect(t, ctx, tt.shown+"\n")
			out.expect(t, ctx, "> ")
			fmt.Fprintln(keys, "exit")
			if err := <-ended; err != nil {
				t.Errorf("the shell ended with %v", err)
			}
			keys.Close()
		})
	}
}

// Help says what the arguments mean, if the host tells.
func TestConnectExplainsArguments(t *testing.T) {
	noLeaks(t)
	c := command("set_member_level", func(*clienttest.Instance) wire.ReturnCode { return wire.NoErrors })
	c.Info.Short, c.Info.IO, c.Info.Long = "set a level", "[-user (text) -level (int)]/[]", "More."
	c.Info.Schema = `{"properties":{"level":{"description":"1 owner, 2 admin"},"user":{"description":"whose"}}}`
	h := clienttest.Start(t, clienttest.Options{Grant: wire.ExtSchema, Commands: []clienttest.Command{c}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys, out, ended := startShell(t, ctx, h)
	out.expect(t, ctx, "> ")
	fmt.Fprintln(keys, "help set_member_level")
	out.expect(t, ctx, "set_member_level - set a level\n[-user (text) -level (int)]/[]\n  -user   whose\n  -level  1 owner, 2 admin\nMore.\n> ")
	fmt.Fprintln(keys, "exit")
	if err := <-ended; err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	keys.Close()
}

// A listing that a person asks for is shown, and teaches names too.
func TestConnectLearnsFromListings(t *testing.T) {
	var l listing
	l.add(wire.Frame{Type: wire.Text, Cmd: 300, Payload: []byte("channel_id    channel_name\n-------       -------\n")})
	l.add(wire.Frame{Type: wire.Text, Cmd: wire.CmdID(wire.AsyncCast), Payload: []byte("7             cast\n")})
	l.add(wire.Frame{Type: wire.Err, Cmd: 300, Payload: []byte("7             error\n")})
	l.add(wire.Frame{Type: wire.Text, Cmd: 300, Payload: make([]byte, maxListing)})
	l.add(wire.Frame{Type: wire.Text, Cmd: 300, Payload: []byte("7             news\n")})
	var news tui.News
	news.Learn(l.String())
	if got := news.Lines(client.Event{ID: wire.AsyncDelCh, Value: &wire.ChannelRef{Channel: 7}}); got != "* channel news is gone" {
		t.Errorf("got %q", got)
	}
}
