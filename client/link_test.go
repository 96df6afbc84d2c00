package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/client/clienttest"
	"mrci.dev/mrci/wire"
)

// linkHost plays the host's part of peer links: every command succeeds, after
// what the test adds has been done.
type linkHost struct {
	calls   sent
	request func(i *clienttest.Instance) wire.ReturnCode
	open    func(i *clienttest.Instance) wire.ReturnCode
	close   func(i *clienttest.Instance) wire.ReturnCode
	send    func(i *clienttest.Instance) wire.ReturnCode
	do      func(i *clienttest.Instance) // behind the call "do"
}

func (h *linkHost) start(t *testing.T, more ...clienttest.Command) *clienttest.Host {
	t.Helper()
	part := func(name string, add *func(*clienttest.Instance) wire.ReturnCode) clienttest.Command {
		return command(name, func(i *clienttest.Instance) wire.ReturnCode {
			h.calls.mu.Lock()
			h.calls.frames = append(h.calls.frames, fmt.Sprintf("%s %v %s", name, i.First.Type, short(i.First.Payload)))
			h.calls.mu.Unlock()
			if *add != nil {
				return (*add)(i)
			}
			return wire.NoErrors
		})
	}
	return clienttest.Start(t, clienttest.Options{Commands: append([]clienttest.Command{
		part("p2p_request", &h.request), part("p2p_open", &h.open), part("p2p_close", &h.close), part("to_peer", &h.send),
		command("do", func(i *clienttest.Instance) wire.ReturnCode {
			if h.do != nil {
				h.do(i)
			}
			return wire.NoErrors
		}),
	}, more...)})
}

// short shows the peer by its first byte, and what follows its id.
func short(payload []byte) string {
	if len(payload) < wire.SessionIDSize {
		return fmt.Sprintf("%q", payload)
	}
	return string(payload[:1]) + " " + string(payload[wire.SessionIDSize:])
}

func peerID(name string) wire.SessionID {
	id := wire.SessionID{1: 7, 27: 9}
	id[0] = name[0]
	return id
}

func peer(name string) wire.Peer { return wire.Peer{Session: peerID(name)} }

// What the host tells about peers.
func p2p(s *clienttest.Session, t wire.TypeID, p wire.Payload) {
	s.SendValue(t, wire.CmdID(wire.AsyncP2P), 0, p)
}
func asks(s *clienttest.Session, name string) {
	p2p(s, wire.P2PRequest, &wire.Peer{Session: peerID(name), User: wire.UserID{1}, Name: name, App: "app"})
}
func opens(s *clienttest.Session, name string) {
	p2p(s, wire.P2POpen, &wire.SessionRef{Session: peerID(name)})
}
func closes(s *clienttest.Session, name string) {
	p2p(s, wire.P2PClose, &wire.SessionRef{Session: peerID(name)})
}
func says(s *clienttest.Session, name, text string) {
	p2p(s, wire.Text, &wire.PeerData{Src: peerID(name), Data: []byte(text)})
}

func run(t *testing.T, c *client.Client, name string) {
	t.Helper()
	if _, err := c.Run(limit(t), name, nil, client.Handlers{}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// receive takes what a link has up to its end, or n messages.
func receive(t *testing.T, l *client.Link, n int) (got []string, err error) {
	t.Helper()
	for len(got) < n {
		typ, payload, err := l.Receive(limit(t))
		if err != nil {
			return got, err
		}
		got = append(got, fmt.Sprintf("%v %s", typ, payload))
	}
	return got, nil
}

func TestRequestLink(t *testing.T) {
	accept := func(i *clienttest.Instance) wire.ReturnCode {
		opens(i.Session, "ann")
		says(i.Session, "ann", "first")
		return wire.NoErrors
	}
	tests := []struct {
		name    string
		before  func(i *clienttest.Instance) // behind an earlier call
		request func(i *clienttest.Instance) wire.ReturnCode
		want    error
		calls   []string
	}{
		{"accepted at once", nil, accept, nil, nil},
		{"accepted later", nil, func(i *clienttest.Instance) wire.ReturnCode {
			idle(i.Session, i.First, wire.NoErrors)
			accept(i)
			return 0
		}, nil, nil},
		{"meets a request that has arrived", func(i *clienttest.Instance) { asks(i.Session, "ann") },
			func(i *clienttest.Instance) wire.ReturnCode {
				says(i.Session, "ann", "first")
				return wire.NoErrors
			}, nil, nil},
		{"meets a request on its way", nil, func(i *clienttest.Instance) wire.ReturnCode {
			asks(i.Session, "ann")
			idle(i.Session, i.First, wire.NoErrors)
			says(i.Session, "ann", "first")
			return 0
		}, nil, nil},
		{"declined", nil, func(i *clienttest.Instance) wire.ReturnCode {
			idle(i.Session, i.First, wire.NoErrors)
			closes(i.Session, "bob")
			closes(i.Session, "ann")
			return 0
		}, client.ErrDeclined, nil},
		{"a request that was withdrawn before", func(i *clienttest.Instance) { asks(i.Session, "ann"); closes(i.Session, "ann") },
			accept, nil, nil},
		// Nobody can tell whether the peer has declined or has withdrawn what it
		// asked itself: the request must not stay open at the host.
		{"closed before the answer", func(i *clienttest.Instance) { asks(i.Session, "ann") },
			func(i *clienttest.Instance) wire.ReturnCode {
				closes(i.Session, "ann")
				return wire.NoErrors
			}, client.ErrDeclined, []string{"p2p_close SESSION_ID a "}},
		{"refused", nil, func(i *clienttest.Instance) wire.ReturnCode {
			i.Reply(wire.Err, []byte("There is no such session.\n"))
			return wire.ExecutionFail
		}, new(client.CommandError), nil},
		{"connection lost", nil, func(i *clienttest.Instance) wire.ReturnCode {
			idle(i.Session, i.First, wire.NoErrors)
			i.Conn.Close()
			return 0
		}, client.ErrLost, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &linkHost{request: tt.request, do: tt.before}
			c := dial(t, h.start(t), client.Config{})
			run(t, c, "do")
			l, err := c.RequestLink(limit(t), peer("ann"))
			if refused, ok := errors.AsType[*client.CommandError](err); ok {
				if _, want := tt.want.(*client.CommandError); !want || refused.Text != "There is no such session." {
					t.Errorf("RequestLink = %v, want %v", err, tt.want)
				}
			} else if !errors.Is(err, tt.want) || (err == nil) != (l != nil) {
				t.Fatalf("RequestLink = %v, %v; want %v", l, err, tt.want)
			}
			want := append([]string{"p2p_request SESSION_ID a "}, tt.calls...)
			if got := h.calls.all(); !slices.Equal(got, want) {
				t.Errorf("the host got %q, want %q", got, want)
			}
			if l == nil {
				return
			}
			if got, err := receive(t, l, 1); err != nil || got[0] != "TEXT first" {
				t.Errorf("Receive = %q, %v", got, err)
			}
			if err := l.Send(limit(t), wire.Bytes, []byte("hello")); err != nil {
				t.Errorf("Send: %v", err)
			}
			for range 2 {
				if err := l.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			if _, err := receive(t, l, 1); err != client.ErrLinkClosed {
				t.Errorf("Receive after Close = %v", err)
			}
			if err := l.Send(limit(t), wire.Text, nil); err != client.ErrLinkClosed {
				t.Errorf("Send after Close = %v", err)
			}
			want = append(want, "to_peer BYTES a hello", "p2p_close SESSION_ID a ")
			if got := h.calls.all(); !slices.Equal(got, want) {
				t.Errorf("the host got %q, want %q", got, want)
			}
			// The peer is free for another link.
			if _, err := c.AcceptLink(limit(t), peer("ann")); err != nil {
				t.Errorf("another link: %v", err)
			}
		})
	}
}

// Who stops waiting withdraws the request, and can ask again at once.
func TestRequestLinkCancelled(t *testing.T) {
	h := &linkHost{}
	asked := make(chan struct{}, 2)
	h.request = func(*clienttest.Instance) wire.ReturnCode {
		asked <- struct{}{}
		return wire.NoErrors
	}
	c := dial(t, h.start(t), client.Config{})
	for range 2 {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(limit(t))
		go func() {
			<-asked
			cancel(enough)
		}()
		if _, err := c.RequestLink(ctx, peer("ann")); !errors.Is(err, enough) {
			t.Errorf("RequestLink = %v, want the cause", err)
		}
	}
	want := []string{"p2p_request SESSION_ID a ", "p2p_close SESSION_ID a "}
	if got := h.calls.all(); !slices.Equal(got, append(want, want...)) {
		t.Errorf("the host got %q", got)
	}
	ctx, cancel := context.WithCancel(limit(t))
	cancel()
	if _, err := c.AcceptLink(ctx, peer("bob")); !errors.Is(err, context.Canceled) || len(h.calls.all()) != 4 {
		t.Errorf("AcceptLink, cancelled before = %v; the host got %q", err, h.calls.all())
	}
}

// A peer that does not answer: the request is withdrawn when the time is up,
// and whatever the peer does then makes no link.
func TestRequestLinkTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		c := dialScript(t, client.Config{}, []string{"p2p_request", "p2p_close", "to_peer"}, func(s *clienttest.Session, in *wire.Reader) {
			for {
				f, err := in.Next()
				if err != nil {
					return
				}
				got = append(got, fmt.Sprint(f.Cmd, " ", short(f.Payload)))
				if f.Cmd == 257 { // it crosses the answer
					opens(s, "ann")
					says(s, "ann", "too late")
				}
				idle(s, f, wire.NoErrors)
			}
		})
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		l, err := c.RequestLink(ctx, peer("ann"))
		if l != nil || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("RequestLink = %v, %v after %v", l, err, time.Since(start))
		}
		synctest.Wait()
		if want := []string{"256 a ", "257 a "}; !slices.Equal(got, want) {
			t.Errorf("the host got %q, want %q", got, want)
		}
	})
}

func TestAcceptLink(t *testing.T) {
	requests := make(chan wire.Peer, 10)
	h := &linkHost{do: func(i *clienttest.Instance) {
		asks(i.Session, "ann")
		asks(i.Session, "bob")
		asks(i.Session, "eve")
	}}
	h.open = func(i *clienttest.Instance) wire.ReturnCode {
		if i.Args()[0] == 'e' {
			i.Reply(wire.Err, []byte("The peer has not asked.\n"))
			return wire.InvalidParams
		}
		says(i.Session, "ann", "to ann's link") // before the answer
		return wire.NoErrors
	}
	var others sync.WaitGroup
	others.Add(1)
	c := dial(t, h.start(t), client.Config{OnEvent: func(e client.Event) {
		switch v := e.Value.(type) {
		case *wire.Peer:
			if e.ID == wire.AsyncP2P && e.Type == wire.P2PRequest {
				requests <- *v
			}
		case *wire.PeerData:
			if v.Src != peerID("ida") || string(v.Data) != "without a link" {
				t.Errorf("event with a link's data %q of %v", v.Data, v.Src)
			}
			others.Done()
		}
	}})
	run(t, c, "do")
	ann, err := c.AcceptLink(limit(t), <-requests)
	if err != nil {
		t.Fatal(err)
	}
	if got := ann.Peer(); got.Name != "ann" || got.Session != peerID("ann") {
		t.Errorf("Peer = %+v", got)
	}
	<-requests
	bob, err := c.AcceptLink(limit(t), peer("bob")) // only the id: the rest is in the request
	if err != nil || bob.Peer().Name != "bob" {
		t.Fatalf("AcceptLink = %+v, %v", bob, err)
	}
	if _, err := c.AcceptLink(limit(t), <-requests); err == nil || err.Error() != "p2p_open: The peer has not asked." {
		t.Errorf("AcceptLink of a request that is gone = %v", err)
	}
	if err := c.DeclineLink(limit(t), peerID("eve")); err != nil {
		t.Errorf("DeclineLink: %v", err)
	}
	for name, err := range map[string]error{
		"DeclineLink": c.DeclineLink(limit(t), peerID("ann")),
		"AcceptLink":  func() error { _, err := c.AcceptLink(limit(t), peer("ann")); return err }(),
		"RequestLink": func() error { _, err := c.RequestLink(limit(t), peer("bob")); return err }(),
	} {
		if !errors.Is(err, client.ErrLinked) {
			t.Errorf("%s of a peer with a link = %v, want ErrLinked", name, err)
		}
	}
	h.do = func(i *clienttest.Instance) {
		says(i.Session, "bob", "1")
		says(i.Session, "ann", "2")
		says(i.Session, "ida", "without a link")
		says(i.Session, "bob", "3")
	}
	run(t, c, "do")
	if got, err := receive(t, bob, 2); err != nil || !slices.Equal(got, []string{"TEXT 1", "TEXT 3"}) {
		t.Errorf("bob's link got %q, %v", got, err)
	}
	if got, err := receive(t, ann, 3); err != nil || !slices.Equal(got, []string{"TEXT to ann's link", "TEXT to ann's link", "TEXT 2"}) {
		t.Errorf("ann's link got %q, %v", got, err)
	}
	others.Wait()
}

// linked returns a client with a link to each of the peers.
func linked(t *testing.T, h *linkHost, cfg client.Config, names ...string) (*client.Client, []*client.Link) {
	t.Helper()
	c := dial(t, h.start(t), cfg)
	var links []*client.Link
	for _, name := range names {
		l, err := c.AcceptLink(limit(t), peer(name))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	return c, links
}

func TestLinkEnds(t *testing.T) {
	myInfo := func(i *clienttest.Instance, user byte) {
		i.SendValue(wire.MyInfo, wire.CmdID(wire.AsyncSysMsg), 0, &wire.Account{Peer: wire.Peer{User: wire.UserID{user}}})
	}
	tests := []struct {
		name  string
		do    func(i *clienttest.Instance)
		want  error
		calls []string // behind p2p_open
	}{
		{"peer closes", func(i *clienttest.Instance) { closes(i.Session, "ann"); says(i.Session, "ann", "behind it") }, client.ErrPeerClosed, nil},
		{"connection lost", func(i *clienttest.Instance) { i.Conn.Close() }, client.ErrLost, nil},
		{"logout", func(i *clienttest.Instance) { i.Withdraw(wire.FirstCmdID + 2) }, client.ErrLoggedOut, nil},
		{"another user", func(i *clienttest.Instance) { myInfo(i, 1); myInfo(i, 1); myInfo(i, 2) }, client.ErrLoggedOut, []string{"p2p_close SESSION_ID a "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			closed := make(chan struct{}, 1)
			h := &linkHost{do: func(i *clienttest.Instance) {
				says(i.Session, "ann", "last words")
				tt.do(i)
			}}
			h.close = func(*clienttest.Instance) wire.ReturnCode {
				closed <- struct{}{}
				return wire.InvalidParams
			}
			c, links := linked(t, h, client.Config{}, "ann")
			c.Run(limit(t), "do", nil, client.Handlers{}) // may fail with the connection
			got, err := receive(t, links[0], 2)
			if !errors.Is(err, tt.want) || !slices.Equal(got, []string{"TEXT last words"}) {
				t.Errorf("Receive = %q, %v; want what came before, then %v", got, err, tt.want)
			}
			if err := links[0].Send(limit(t), wire.Text, nil); !errors.Is(err, tt.want) {
				t.Errorf("Send = %v, want %v", err, tt.want)
			}
			if err := links[0].Close(); err != nil || !errors.Is(links[0].Err(), tt.want) {
				t.Errorf("Close of a link that has ended = %v, Err %v", err, links[0].Err())
			}
			if tt.calls != nil {
				<-closed
			}
			if got := h.calls.all()[1:]; !slices.Equal(got, tt.calls) {
				t.Errorf("the host got %q, want %q", got, tt.calls)
			}
		})
	}
	t.Run("client closed", func(t *testing.T) {
		c, links := linked(t, &linkHost{}, client.Config{}, "ann", "bob")
		c.Close()
		for _, l := range links {
			if _, err := receive(t, l, 1); !errors.Is(err, client.ErrClosed) {
				t.Errorf("Receive = %v, want ErrClosed", err)
			}
		}
		if _, err := c.AcceptLink(limit(t), peer("eve")); !errors.Is(err, client.ErrClosed) {
			t.Errorf("AcceptLink = %v, want ErrClosed", err)
		}
	})
}

// A login as the same user ends what the session had, as the host does; a
// login that fails ends nothing, and a link that is asked for behind it stands.
func TestLinkEndsWithAnotherLogin(t *testing.T) {
	h := new(linkHost)
	refuse := true
	c := dial(t, h.start(t, command("auth", func(i *clienttest.Instance) wire.ReturnCode {
		if refuse {
			return wire.Aborted
		}
		i.SendValue(wire.MyInfo, wire.CmdID(wire.AsyncSysMsg), 0, &wire.Account{Peer: wire.Peer{User: wire.UserID{1}}})
		asks(i.Session, "bob") // before the host has logged the session out
		return wire.NoErrors
	})), client.Config{})
	stands, err := c.AcceptLink(limit(t), peer("ann"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, "auth")
	if err := stands.Err(); err != nil {
		t.Errorf("a login that failed has ended the link: %v", err)
	}
	asked, pending := make(chan struct{}), make(chan error, 1)
	h.request = func(i *clienttest.Instance) wire.ReturnCode {
		idle(i.Session, i.First, wire.NoErrors)
		close(asked)
		return 0
	}
	go func() {
		_, err := c.RequestLink(limit(t), peer("cid"))
		pending <- err
	}()
	<-asked
	refuse = false
	run(t, c, "auth")
	if _, err := receive(t, stands, 1); !errors.Is(err, client.ErrLoggedOut) {
		t.Errorf("Receive = %v, want ErrLoggedOut", err)
	}
	if err := <-pending; !errors.Is(err, client.ErrLoggedOut) {
		t.Errorf("RequestLink = %v, want ErrLoggedOut", err)
	}
	h.request = func(i *clienttest.Instance) wire.ReturnCode {
		idle(i.Session, i.First, wire.NoErrors)
		opens(i.Session, "bob")
		says(i.Session, "bob", "again")
		return 0
	}
	again, err := c.RequestLink(limit(t), peer("bob"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := receive(t, again, 1); err != nil || !slices.Equal(got, []string{"TEXT again"}) {
		t.Errorf("Receive = %q, %v", got, err)
	}
}

// A request of a peer ends with the login, and what is asked of that peer
// behind the login does not accept it.
func TestRequestEndsWithAnotherLogin(t *testing.T) {
	var auth *clienttest.Instance
	h := &linkHost{request: func(i *clienttest.Instance) wire.ReturnCode {
		idle(auth.Session, auth.First, wire.NoErrors)
		idle(i.Session, i.First, wire.NoErrors)
		closes(i.Session, "ann")
		return 0
	}}
	asked := make(chan struct{})
	c := dial(t, h.start(t, command("auth", func(i *clienttest.Instance) wire.ReturnCode {
		auth = i
		asks(i.Session, "ann") // before the host has logged the session out
		return 0
	})), client.Config{OnEvent: func(e client.Event) {
		if e.Type == wire.P2PRequest {
			close(asked)
		}
	}})
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(limit(t), "auth", nil, client.Handlers{})
		ended <- err
	}()
	<-asked
	if _, err := c.RequestLink(limit(t), peer("ann")); !errors.Is(err, client.ErrDeclined) {
		t.Errorf("RequestLink = %v, want ErrDeclined", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("auth: %v", err)
	}
}

// Everybody who waits in Receive learns of the end.
func TestLinkEndWakesAll(t *testing.T) {
	c, links := linked(t, &linkHost{do: func(i *clienttest.Instance) {
		says(i.Session, "ann", "1")
		says(i.Session, "ann", "2")
		closes(i.Session, "ann")
	}}, client.Config{}, "ann")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := receive(t, links[0], 3); err != client.ErrPeerClosed {
				t.Errorf("Receive = %v", err)
			}
		})
	}
	run(t, c, "do")
	wg.Wait()
}

// A link that nobody receives from is closed, and holds up nothing.
func TestLinkFull(t *testing.T) {
	closed := make(chan struct{})
	h := &linkHost{do: func(i *clienttest.Instance) {
		for n := range 1000 {
			says(i.Session, "ann", fmt.Sprintf("%36d", n))
		}
		says(i.Session, "bob", "still there")
		i.Send(wire.Text, wire.CmdID(wire.AsyncCast), 0, []byte("cast"))
	}}
	h.close = func(*clienttest.Instance) wire.ReturnCode {
		close(closed)
		return wire.NoErrors
	}
	event := make(chan client.Event, 1)
	onEvent := func(e client.Event) {
		if e.ID == wire.AsyncCast { // this host goes on with the link after it has been closed
			event <- e
		}
	}
	c, links := linked(t, h, client.Config{QueueBytes: 1000, OnEvent: onEvent, Stall: -1}, "ann", "bob")
	run(t, c, "do")
	if got, err := receive(t, links[1], 1); err != nil || got[0] != "TEXT still there" {
		t.Errorf("the other link got %q, %v", got, err)
	}
	if e := <-event; e.Text() != "cast" {
		t.Errorf("event %+v", e)
	}
	<-closed // the peer is told
	got, err := receive(t, links[0], 1000)
	if err != client.ErrLinkFull || len(got) != 10 {
		t.Errorf("the full link had %d messages, then %v; want 10, of 100 bytes each, then ErrLinkFull", len(got), err)
	}
	if calls := h.calls.all(); calls[len(calls)-1] != "p2p_close SESSION_ID a " {
		t.Errorf("the host got %q", calls)
	}
}

func TestLinkSend(t *testing.T) {
	h := &linkHost{}
	h.send = func(i *clienttest.Instance) wire.ReturnCode {
		switch string(i.First.Payload[wire.SessionIDSize:]) {
		case "full":
			i.Reply(wire.Err, []byte("The peer takes nothing.\n"))
			return wire.ExecutionFail
		case "late":
			closes(i.Session, "ann")
			i.Reply(wire.Err, []byte("There is no link.\n"))
			return wire.InvalidParams
		}
		return wire.NoErrors
	}
	_, links := linked(t, h, client.Config{}, "ann")
	l := links[0]
	tests := []struct {
		typ     wire.TypeID
		payload string
		want    string
	}{
		{wire.GenFile, "x", ""},
		{wire.Text, strings.Repeat("x", wire.MaxPayload-wire.SessionIDSize), ""},
		{wire.Text, strings.Repeat("x", wire.MaxPayload-wire.SessionIDSize+1), wire.ErrTooLarge.Error()},
		{wire.KillCmd, "", client.ErrNotRelayable.Error()},
		{0, "", client.ErrNotRelayable.Error()},
		{wire.Text, "full", "to_peer: The peer takes nothing."},
		{wire.Text, "again", ""}, // the link has gone on
		{wire.Text, "late", client.ErrPeerClosed.Error()},
	}
	for _, tt := range tests {
		err := l.Send(limit(t), tt.typ, []byte(tt.payload))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Send(%v, %d bytes) = %v, want %q", tt.typ, len(tt.payload), err, tt.want)
		}
	}
}

// A host that leaves calls without an answer: nothing waits for ever.
func TestLinkOnADeafHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialScript(t, client.Config{}, []string{"p2p_request", "p2p_open", "p2p_close", "to_peer"}, func(s *clienttest.Session, in *wire.Reader) {
			for {
				f, err := in.Next()
				if err != nil {
					return
				}
				if f.Cmd == 257 {
					idle(s, f, wire.NoErrors)
				}
			}
		})
		defer c.Close()
		l, err := c.AcceptLink(t.Context(), peer("ann"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := l.Send(ctx, wire.Text, nil); !errors.Is(err, client.ErrGivenUp) || time.Since(start) != 4*time.Second {
			t.Errorf("Send = %v after %v, want ErrGivenUp after 1s and the grace", err, time.Since(start))
		}
		if _, _, err := l.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Receive = %v, want its context's error", err)
		}
		start = time.Now()
		if err := l.Close(); !errors.Is(err, client.ErrGivenUp) || time.Since(start) != 6*time.Second {
			t.Errorf("Close = %v after %v, want ErrGivenUp after twice the grace", err, time.Since(start))
		}
		start = time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.RequestLink(ctx, peer("ann")); !errors.Is(err, client.ErrGivenUp) || time.Since(start) != 10*time.Second {
			t.Errorf("RequestLink = %v after %v, want ErrGivenUp after 10s", err, time.Since(start))
		}
	})
}

// What a host says about links that nobody has, or wrongly, harms nothing and
// is an event.
func TestLinkFramesThatMakeNoSense(t *testing.T) {
	h := &linkHost{}
	frames := 0
	h.do = func(i *clienttest.Instance) {
		for _, typ := range []wire.TypeID{wire.P2PRequest, wire.P2POpen, wire.P2PClose, wire.Text, 200} {
			i.Send(typ, wire.CmdID(wire.AsyncP2P), 0, []byte("short"))
			i.Send(typ, wire.CmdID(wire.AsyncP2P), 0, nil)
			frames += 2
		}
		for range 2 {
			opens(i.Session, "ida")
			closes(i.Session, "ida")
			says(i.Session, "ida", "x")
			opens(i.Session, "ann") // it stands
			asks(i.Session, "ann")
			frames += 5
		}
		for n := range 300 {
			p2p(i.Session, wire.P2PRequest, &wire.Peer{Session: wire.SessionID{byte(n), byte(n >> 8), 1}})
			frames++
		}
		says(i.Session, "ann", "hello")
	}
	var mu sync.Mutex
	events := 0
	c, links := linked(t, h, client.Config{OnEvent: func(client.Event) {
		mu.Lock()
		defer mu.Unlock()
		events++
	}}, "ann")
	run(t, c, "do")
	if got, err := receive(t, links[0], 1); err != nil || got[0] != "TEXT hello" {
		t.Errorf("Receive = %q, %v", got, err)
	}
	c.Close() // waits for OnEvent
	if events != frames {
		t.Errorf("%d events, want %d", events, frames)
	}
}
