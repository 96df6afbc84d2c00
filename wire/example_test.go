package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"mrci.dev/mrci/wire"
)

// A client sends its header at once and reads the host's.
func ExampleParseHostHeader() {
	var stream bytes.Buffer // stands for the connection
	stream.Write(wire.HostHeader{Reply: wire.ReplyTLS, Version: wire.Served}.Append(nil))

	hello := wire.ClientHeader{AppName: "tool 1.0", Requested: true, Wanted: wire.ExtSchema}.Append(nil)
	fmt.Println("sends", len(hello), "bytes")

	var answer [wire.HostHeaderSize]byte
	if _, err := io.ReadFull(&stream, answer[:]); err != nil {
		fmt.Println(err)
		return
	}
	host, err := wire.ParseHostHeader(&answer)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("TLS:", host.Reply == wire.ReplyTLS, "revision:", host.Version.TCPRev)
	// Output:
	// sends 292 bytes
	// TLS: true revision: 2
}

// Frames are read until the stream ends. What a payload is depends on the
// frame's type, and for async ids on the id.
func ExampleReader() {
	stream := wire.AppendText(nil, wire.Text, 256, 7, "hello")
	stream = wire.AppendFrame(stream, wire.Prog, 256, 7, wire.Append(nil, &wire.Percent{Done: 50}))
	stream = wire.AppendFrame(stream, wire.Bytes, wire.CmdID(wire.AsyncRenameCh), 0,
		wire.Append(nil, &wire.ChannelRenamed{Channel: 2, Name: "tea room"}))
	stream = wire.AppendIdle(stream, 256, 7, wire.NoErrors, nil)

	r := wire.NewReader(bytes.NewReader(stream), 0)
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Print(f.Cmd, " ", f.Branch, " ", f.Type)
		switch p := wire.NewClientPayload(f.Cmd, f.Type); {
		case f.Type == wire.Idle:
			code, _, err := wire.ParseIdle(f.Payload)
			fmt.Print(" ", code, " ", err)
		case p == nil:
			fmt.Print(" ", string(f.Payload))
		default:
			if err := wire.Parse(f.Payload, p); err != nil {
				fmt.Print(" ", err)
			}
			for _, field := range wire.Fields(p) {
				fmt.Print(" ", field.Name, "=", field.Value)
			}
		}
		fmt.Println()
	}
	// Output:
	// 256 7 TEXT hello
	// 256 7 PROG percent=50
	// RENAME_CH 0 BYTES channel_id=2 channel_name=tea room
	// 256 7 IDLE NO_ERRORS <nil>
}

// A FormatError says what is wrong and where, without the bytes.
func ExampleFormatError() {
	err := wire.Parse([]byte{1, 2, 3}, new(wire.ChannelRef))
	var bad *wire.FormatError
	fmt.Println(errors.As(err, &bad), bad.Field, bad.Offset)
	fmt.Println(err)
	// Output:
	// true channel_id 0
	// CH_ID: field channel_id at byte 0: want 8 bytes
}
