package soak

import (
	"context"
	"net"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has scenes of clients that read slowly, or not at all.

// enterAsBoss logs in, frame by frame.
func (s *soaker) enterAsBoss(ctx context.Context) (*raw.Client, error) {
	p, err := raw.Dial(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	if err := p.Enlist(raw.Account{Name: bossName(s.number), Password: password}); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// drip is a connection that is read a little at a time, for some reads.
type drip struct {
	net.Conn
	left int
}

const (
	readBytes = 1 << 10
	readPause = 10 * time.Millisecond
)

func (d *drip) Read(b []byte) (int, error) {
	if d.left > 0 {
		d.left--
		b = b[:min(len(b), readBytes)]
		time.Sleep(readPause) // this is what a slow reader does
	}
	return d.Conn.Read(b)
}

// slow reads long listings slowly, and has all of them in the end.
func (s *soaker) slow(ctx, _ context.Context) error {
	p, err := s.enterAsBoss(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	users, err := p.ID("ls_users")
	if err != nil {
		return err
	}
	nc := p.Conn
	p.Conn = &drip{Conn: nc, left: 100}
	const listings = 30
	var request []byte
	for i := range listings {
		s.work.call()
		request = wire.AppendText(request, wire.Text, users, wire.BranchID(i), "-all")
	}
	if err := p.Call(request, users); err != nil {
		return err
	}
	for range listings - 1 {
		if err := p.UntilIdle(users); err != nil {
			return err
		}
	}
	p.Conn = nc
	s.part(p)
	return nil
}

// deafFor is how long somebody who reads nothing stays.
const deafFor = 3 * time.Second

// deaf asks and never reads, until the host reads no more either.
func (s *soaker) deaf(ctx, soak context.Context) error {
	p, err := s.enterAsBoss(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	users, err := p.ID("ls_users")
	if err != nil {
		return err
	}
	request := wire.AppendText(nil, wire.Text, users, raw.Branch, "-all")
	if err := p.Conn.SetWriteDeadline(time.Now().Add(deafFor)); err != nil {
		return err
	}
	for range 500 {
		s.work.call()
		if _, err := p.Conn.Write(request); err != nil {
			break // nobody reads it
		}
	}
	s.rest(soak)
	s.part(p)
	return nil
}
