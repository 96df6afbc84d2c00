package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has what sessions do in a soak that never log in.

// asStranger makes a scene of what a session does that is not logged in, frame
// by frame.
func asStranger(play func(s *soaker, p *raw.Client, myInfo wire.CmdID) error) func(s *soaker, ctx, soak context.Context) error {
	return func(s *soaker, ctx, _ context.Context) error {
		p, err := raw.Dial(ctx, s.addr)
		if err != nil {
			return err
		}
		defer p.Close()
		myInfo, err := p.ID("my_info")
		if err != nil {
			return err
		}
		return play(s, p, myInfo)
	}
}

func (s *soaker) part(p *raw.Client) {
	if s.one(2) {
		raw.Reset(p.Conn)
		return
	}
	p.Close()
}

// answers makes sure that the session still serves.
func (s *soaker) answers(p *raw.Client, myInfo wire.CmdID) error {
	s.work.call()
	return p.Call(wire.AppendText(nil, wire.Text, myInfo, raw.Branch, ""), myInfo)
}

func (s *soaker) unknown(p *raw.Client, myInfo wire.CmdID) error {
	for range 1 + s.random.IntN(20) {
		// What no call gets is dropped.
		request := wire.AppendFrame(nil, wire.KillCmd, raw.Nowhere, raw.Branch, nil)
		request = wire.AppendFrame(request, wire.TermCmd, myInfo, raw.Branch, nil)
		err := p.Call(wire.AppendText(request, wire.Text, raw.Nowhere, raw.Branch, "-x y"), raw.Nowhere)
		if err == nil || !strings.Contains(err.Error(), wire.InvalidParams.String()) {
			return fmt.Errorf("unknown command: %v, want %v", err, wire.InvalidParams)
		}
	}
	if err := s.answers(p, myInfo); err != nil {
		return err
	}
	s.part(p)
	return nil
}

// noise sends frames of any type to any command.
func (s *soaker) noise(p *raw.Client, myInfo wire.CmdID) error {
	for range 1 + s.random.IntN(10) {
		cmd := wire.CmdID(s.random.IntN(400))
		if cmd == myInfo {
			continue
		}
		payload := make([]byte, s.random.IntN(64))
		for i := range payload {
			payload[i] = byte(s.random.Uint32())
		}
		frame := wire.AppendFrame(nil, wire.TypeID(s.random.IntN(256)), cmd, wire.BranchID(s.random.IntN(5)), payload)
		if _, err := p.Conn.Write(frame); err != nil {
			return err
		}
	}
	if err := s.answers(p, myInfo); err != nil {
		return err
	}
	if s.one(2) { // within a frame
		if _, err := p.Conn.Write([]byte{byte(wire.Text), 0, 1, 0, 0, 100, 0, 0, 'x'}); err != nil {
			return err
		}
	}
	s.part(p)
	return nil
}

// anonymousCalls is how many calls a session may have before login.
const anonymousCalls = 4

// tooMany begins more calls than there may be, and kills those that there are.
func (s *soaker) tooMany(p *raw.Client, myInfo wire.CmdID) error {
	auth, err := p.ID("auth")
	if err != nil {
		return err
	}
	var request, kills []byte
	const calls = anonymousCalls + 2
	for i := range calls {
		s.work.call()
		request = wire.AppendText(request, wire.Text, auth, wire.BranchID(i), "-user "+UserName(s.number))
		kills = wire.AppendFrame(kills, wire.KillCmd, auth, wire.BranchID(i), nil)
	}
	if _, err := p.Conn.Write(request); err != nil {
		return err
	}
	for asked, refused := 0, 0; asked < anonymousCalls || refused < calls-anonymousCalls; {
		f, err := p.Next()
		if err != nil {
			return err
		}
		switch f.Type {
		case wire.PrivText:
			asked++
		case wire.Idle:
			refused++
			if code, _, err := wire.ParseIdle(f.Payload); err != nil || code != wire.ExecutionFail {
				return fmt.Errorf("one call too many ends with %v (%v), want %v", code, err, wire.ExecutionFail)
			}
		}
		if asked > anonymousCalls || refused > calls-anonymousCalls {
			return fmt.Errorf("%d calls ask, %d are refused", asked, refused)
		}
	}
	if s.one(2) {
		if _, err := p.Conn.Write(kills); err != nil {
			return err
		}
		for range anonymousCalls {
			if err := p.UntilIdle(auth); err == nil || !strings.Contains(err.Error(), wire.Aborted.String()) {
				return fmt.Errorf("a call that was killed: %v, want %v", err, wire.Aborted)
			}
		}
		if err := s.answers(p, myInfo); err != nil {
			return err
		}
	}
	s.part(p)
	return nil
}

// tooLarge begins a frame above what is read before a login: the host refuses
// it and ends the session.
func (s *soaker) tooLarge(p *raw.Client, myInfo wire.CmdID) error {
	frame := wire.FrameHeader{Type: wire.Text, Cmd: myInfo, Branch: raw.Branch, Len: 1 << 20}.Append(nil)
	if _, err := p.Conn.Write(append(frame, make([]byte, s.random.IntN(1000))...)); err != nil {
		return err
	}
	refusal := p.UntilIdle(myInfo)
	if s.one(3) {
		raw.Reset(p.Conn)
	}
	if refusal == nil || !strings.Contains(refusal.Error(), wire.InvalidParams.String()) {
		return fmt.Errorf("frame that is too large: %v, want %v", refusal, wire.InvalidParams)
	}
	return nil
}

// wrongOnly gives up after passwords that are wrong.
func (s *soaker) wrongOnly(ctx, _ context.Context) error {
	v, err := visitHost(ctx, s.addr, s.work)
	if err != nil {
		return err
	}
	defer v.c.Close()
	name := UserName(s.number)
	if s.one(3) {
		name = "nobody-at-all"
	}
	if err := v.run(ctx, expect{name: "auth", args: []string{"-user", name}, answers: []string{"wrong", ""}, code: wire.Aborted, says: "wrong"}); err != nil {
		return err
	}
	v.leave(s.one(2))
	return nil
}

// garbage sends what is no header: the host closes and says nothing.
func (s *soaker) garbage(ctx, _ context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	b := make([]byte, wire.ClientHeaderSize+s.random.IntN(200))
	for i := range b {
		b[i] = byte(s.random.Uint32())
	}
	b[0] = 'X'
	if _, err := nc.Write(b); err != nil {
		return nil // closed at the first bytes
	}
	if s.one(3) {
		raw.Reset(nc)
		return nil
	}
	if n, err := nc.Read(b); n > 0 || isTimeout(err) {
		return fmt.Errorf("the host answers garbage: %d bytes, %v", n, err)
	}
	return nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (s *soaker) halfHeader(ctx, soak context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	b := wire.ClientHeader{AppName: "mrci bench soak"}.Append(nil)
	if _, err := nc.Write(b[:1+s.random.IntN(len(b)-1)]); err != nil {
		return err
	}
	s.rest(soak)
	if s.one(2) {
		raw.Reset(nc)
	}
	return nil
}

// headerOnly breaks off behind the headers, or within a TLS handshake.
func (s *soaker) headerOnly(ctx, soak context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(wire.ClientHeader{AppName: "mrci bench soak"}.Append(nil)); err != nil {
		return err
	}
	var b [wire.HostHeaderSize]byte
	if s.one(2) {
		if _, err := io.ReadFull(nc, b[:]); err != nil {
			return err
		}
		if s.one(2) { // no handshake, and no frame either
			if _, err := nc.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
				return err
			}
		}
	}
	s.rest(soak)
	if s.one(2) {
		raw.Reset(nc)
	}
	return nil
}

func (s *soaker) silent(ctx, soak context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if s.one(2) {
		s.rest(soak)
	}
	if s.one(2) {
		raw.Reset(nc)
	}
	return nil
}
