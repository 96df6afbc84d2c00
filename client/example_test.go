package client_test

import (
	"context"
	"fmt"
	"os"

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

func ExampleQuote() {
	fmt.Println(client.Quote("-name", "two words", "-5"))
	fmt.Println(client.QuoteFor("[-name (text)]/[text]", "-name", "-dashed"))
	// Output:
	// -name "two words" "-5"
	// -name "-dashed"
}
