package modeltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// patience is how long a frame that must come may take. Nothing passes because
// of it: it only ends a test that fails.
const patience = 30 * time.Second

// client is a connection that speaks frames, and reads without a goroutine.
type client struct {
	nc *net.TCPConn
	r  *wire.Reader
	id wire.SessionID
}

func dial(addr, app string) (*client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{nc: nc.(*net.TCPConn), r: wire.NewReader(nc, 0)}
	var b [wire.HostHeaderSize]byte
	if _, err = nc.Write(wire.ClientHeader{AppName: app}.Append(nil)); err == nil {
		_, err = io.ReadFull(nc, b[:])
	}
	var h wire.HostHeader
	if err == nil {
		h, err = wire.ParseHostHeader(&b)
	}
	if err == nil && h.Reply != wire.ReplyClear {
		err = fmt.Errorf("reply %d on loopback", h.Reply)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	c.id = h.Session
	return c, nil
}

// clients are those of a running host.
type clients struct {
	host  *hosttest.Host
	app   string
	slots [maxSessions]*client
	// observer is a session beside the model. It hears nothing, being nobody,
	// and asks while something is waited for that no frame tells.
	observer *client
	myInfo   wire.CmdID

	// The watchdog closes all connections when nothing has happened for long,
	// so that a read ends.
	watchdog *time.Timer
	mu       sync.Mutex
	open     map[*client]struct{}
}

func newClients(h *hosttest.Host, app string, myInfo wire.CmdID) (*clients, error) {
	c := &clients{host: h, app: app, myInfo: myInfo, open: make(map[*client]struct{})}
	c.watchdog = time.AfterFunc(patience, c.close)
	var err error
	if c.observer, err = c.dial(); err != nil {
		return nil, err
	}
	return c, c.await(0)
}

// await waits until the host has the sessions of so many clients, and the
// observer's.
func (c *clients) await(n int) error {
	c.alive()
	for {
		if err := c.ask(); err != nil { // gives the host time
			return err
		}
		if c.host.Sessions() == n+1 {
			return nil
		}
	}
}

func (c *clients) dial() (*client, error) {
	one, err := dial(c.host.Address(), c.app)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[one] = struct{}{}
	return one, nil
}

func (c *clients) drop(one *client) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, one)
	return one.nc.Close()
}

// close ends all clients.
func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for one := range c.open {
		one.nc.Close()
	}
}

// stop is for the end of a test.
func (c *clients) stop() {
	c.watchdog.Stop()
	c.close()
}

// alive tells the watchdog that something happens.
func (c *clients) alive() { c.watchdog.Reset(patience) }

// ask calls my_info as the observer, and waits for the answer.
func (c *clients) ask() error {
	if _, err := c.observer.nc.Write(wire.AppendText(nil, wire.Text, c.myInfo, 0, "")); err != nil {
		return err
	}
	for {
		f, err := c.observer.r.Next()
		if err != nil {
			return fmt.Errorf("observer: %w", err)
		}
		if f.Type == wire.Idle {
			return nil
		}
	}
}

func (c *clients) connect(slot int) (wire.SessionID, error) {
	c.alive()
	one, err := c.dial()
	if err != nil {
		return wire.SessionID{}, err
	}
	c.slots[slot] = one
	return one.id, nil
}

func (c *clients) send(slot int, frames []byte) error {
	c.alive()
	_, err := c.slots[slot].nc.Write(frames)
	return err
}

func (c *clients) next(slot int) (wire.Frame, error) { return c.slots[slot].r.Next() }

func (c *clients) finish(slot int) error {
	one := c.slots[slot]
	if err := one.nc.CloseWrite(); err != nil {
		return err
	}
	switch f, err := one.r.Next(); {
	case err == nil:
		return fmt.Errorf("got %s\nwanted the end", describe(f))
	case !errors.Is(err, io.EOF):
		return err
	}
	return c.gone(slot)
}

func (c *clients) reset(slot int) error {
	// Without linger the peer gets a reset.
	if err := c.slots[slot].nc.SetLinger(0); err != nil {
		return err
	}
	return c.gone(slot)
}

// gone closes a client and waits until the host has none of it.
func (c *clients) gone(slot int) error {
	c.alive()
	if err := c.drop(c.slots[slot]); err != nil {
		return err
	}
	c.slots[slot] = nil
	left := 0
	for _, one := range c.slots {
		if one != nil {
			left++
		}
	}
	return c.await(left)
}

func (c *clients) account(name string) (wire.UserID, error) {
	u, err := c.host.Accounts().UserByName(context.Background(), name)
	return u.ID, err
}
