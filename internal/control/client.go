package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"
)

// ErrNotRunning says that no host listens on the control socket.
var ErrNotRunning = errors.New("no host is running")

// A connect that finds the queue full is tried again, so often and after this
// time: the host takes connections off it as fast as it can.
const (
	connectTries = 50
	connectPause = 20 * time.Millisecond
)

// Call asks the host behind the socket at path. The error is ErrNotRunning when
// there is none; an Answer with a Status that is not 0 is no error. It waits for
// the answer until ctx ends.
func Call(ctx context.Context, path string, r Request) (Answer, error) {
	return call(ctx, path, r, false)
}

// CallUntilEnd is Call for a request that ends the host. It returns when the
// host has ended, or at once when the host does not hold the connection, as
// when it refuses.
func CallUntilEnd(ctx context.Context, path string, r Request) (Answer, error) {
	return call(ctx, path, r, true)
}

func call(ctx context.Context, path string, r Request, untilEnd bool) (Answer, error) {
	line, err := encodeRequest(r)
	if err != nil {
		return Answer{}, err
	}
	c, err := connect(ctx, path)
	if err != nil {
		return Answer{}, err
	}
	defer c.Close()
	unblock := context.AfterFunc(ctx, func() { c.Close() })
	defer unblock()

	// A host that refuses the connection answers without reading: the write may
	// find it closed, and the answer is there all the same.
	_, writeErr := c.Write(line)
	in := bufio.NewReader(io.LimitReader(c, maxAnswer))
	line, err = in.ReadBytes('\n')
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return Answer{}, fmt.Errorf("wait for the host's answer: %w", context.Cause(ctx))
		case len(line) == maxAnswer:
			return Answer{}, fmt.Errorf("the host's answer is too long: more than %d bytes", maxAnswer)
		case errors.Is(err, io.EOF), peerGone(err), peerGone(writeErr):
			return Answer{}, errors.New("the host ended before it answered")
		case writeErr != nil:
			return Answer{}, fmt.Errorf("ask the host: %w", writeErr)
		}
		return Answer{}, fmt.Errorf("wait for the host's answer: %w", err)
	}
	a, err := decodeAnswer(line[:len(line)-1])
	if err != nil || !untilEnd || !a.Hold {
		return a, err
	}
	// The end of the connection, in whatever way, is the end of the host.
	_, _ = io.Copy(io.Discard, c)
	if ctx.Err() != nil {
		return a, fmt.Errorf("wait for the end of the host: %w", context.Cause(ctx))
	}
	return a, nil
}

// connect opens a connection to the socket at path.
func connect(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	for try := 1; ; try++ {
		c, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("connect to the host: %w", context.Cause(ctx))
		case nobodyListens(err):
			return nil, fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, path)
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("connect to the host: no permission for %s: run this as the account of the host, or as root", path)
		case !queueFull(err):
			return nil, fmt.Errorf("connect to the host: %w", err)
		case try == connectTries:
			return nil, fmt.Errorf("connect to the host: it does not take connections on %s: is it stopped or overloaded?", path)
		}
		timer := time.NewTimer(connectPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
