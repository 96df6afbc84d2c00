package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "host.example", client.Config{
		App: "weather 1.0",
		OnEvent: func(e client.Event) {
			if peer, ok := e.Value.(*wire.Peer); ok {
				fmt.Println("peer:", peer.Name)
			}
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer c.Close()
	if err := c.Login(ctx, "ann", client.WithPassword(os.Getenv("PASSWORD"))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	result, err := c.Run(ctx, "fs_list", []string{"-path", "my files"}, client.Handlers{
		Frame: func(f wire.Frame) error {
			_, err := os.Stdout.Write(f.Payload)
			return err
		},
	})
	fmt.Println(result.Code, err)
}

func ExampleClient_Call() {
	var c *client.Client // from Dial
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // a call that still runs then gets TERM_CMD
	call, err := c.Call(ctx, "fs_tree", "-path", "/")
	if err != nil {
		return
	}
	for f, err := range call.Frames(ctx) {
		if err != nil {
			return
		}
		fmt.Printf("%s: %s", f.Type, f.Payload)
	}
	fmt.Println(call.Result().Code)
}

func ExampleClient_OpenSubChannel() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "host.example", client.Config{OnEvent: func(e client.Event) {
		if e.ID == wire.AsyncCast {
			fmt.Printf("cast: %s %q\n", e.Type, e.Payload) // by whom, the payload may say
			return
		}
		switch v := e.Value.(type) {
		case *wire.PeerStatus:
			fmt.Println("session", v.Session, "has open", v.Open.Open(), "has left:", v.Disconnected)
		case *wire.Member:
			fmt.Println(e.ID, v.Name, "in", v.ChannelName)
		}
		if e.Lost > 0 {
			fmt.Println(e.Lost, "events were missed before this one")
		}
	}})
	if err != nil {
		return
	}
	defer c.Close()
	if err := c.Login(ctx, "ann", client.WithPassword(os.Getenv("PASSWORD"))); err != nil {
		return
	}
	if err := c.OpenSubChannel(ctx, "news", "weather"); err != nil {
		fmt.Println(err) // such as: open_sub_ch: There is no such channel.
		return
	}
	if err := c.Cast(ctx, wire.Text, []byte("rain at noon")); err != nil {
		return
	}
	<-c.Done() // events arrive meanwhile
}

func ExampleClient_Caster() {
	var c *client.Client // from Dial, logged in, with a sub-channel open
	ctx := context.Background()
	row := c.Caster()
	for n := range 100_000 {
		if err := row.Send(ctx, wire.Text, fmt.Appendf(nil, "value %d", n)); err != nil {
			break // Wait says so, too
		}
	}
	if err := row.Wait(ctx); err != nil {
		fmt.Println(err)
	}
}

func ExampleClient_Peers() {
	var c *client.Client // from Dial, logged in, with an active sub-channel open
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for peer, err := range c.Peers(ctx) { // ends after a second
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(peer.Name, peer.App)
	}
}

// One side asks for a link, the other one answers to the event.
func ExampleClient_RequestLink() {
	var c *client.Client // from Dial, logged in
	var peer wire.Peer   // from Peers
	ctx := context.Background()
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	l, err := c.RequestLink(waiting, peer)
	if errors.Is(err, client.ErrDeclined) {
		fmt.Println(peer.Name, "does not want to talk")
	}
	if err != nil {
		return
	}
	defer l.Close()
	if err := l.Send(ctx, wire.Text, []byte("hello")); err != nil {
		return
	}
	for {
		t, payload, err := l.Receive(ctx)
		if err != nil {
			fmt.Println(err) // such as: the peer closed the link, or has left
			return
		}
		fmt.Printf("%s %q\n", t, payload)
	}
}

func ExampleClient_AcceptLink() {
	ctx := context.Background()
	requests := make(chan wire.Peer, 10)
	c, err := client.Dial(ctx, "host.example", client.Config{OnEvent: func(e client.Event) {
		if peer, ok := e.Value.(*wire.Peer); ok && e.Type == wire.P2PRequest {
			select {
			case requests <- *peer:
			default: // too many at once; they stay without an answer
			}
		}
	}})
	if err != nil {
		return
	}
	defer c.Close()
	for {
		var peer wire.Peer
		select {
		case peer = <-requests:
		case <-c.Done(): // nobody will ask any more
			fmt.Println(c.Err())
			return
		}
		l, err := c.AcceptLink(ctx, peer)
		if err != nil {
			continue // withdrawn, perhaps
		}
		_, payload, err := l.Receive(ctx)
		if err == nil {
			err = l.Send(ctx, wire.Text, payload)
		}
		fmt.Println(peer.Name, err)
		l.Close()
	}
}

func ExampleQuote() {
	fmt.Println(client.Quote("-name", "two words", "-5"))
	fmt.Println(client.QuoteFor("[-name (text)]/[text]", "-name", "-dashed"))
	// Output:
	// -name "two words" "-5"
	// -name "-dashed"
}
