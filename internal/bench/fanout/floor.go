package fanout

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"mrci.dev/mrci/wire"
)

// The commands of a Floor.
const (
	FloorOpen wire.CmdID = wire.FirstCmdID + iota // open_sub_ch
	FloorCast                                     // cast
)

// Bounds of a Floor, in bytes.
const (
	floorQueue = 1 << 20   // that may wait for one receiver before senders wait
	floorFrame = 1<<20 + 8 // of the largest frame
	floorRead  = 64 << 10  // at once
	floorWrite = 64 << 10  // at once, of small frames
	floorLarge = 16 << 10  // a frame of this size is written from where it is
)

// Floor is the least that a server of casts can do: who call FloorOpen with the
// same text are in one set, and each frame to FloorCast is copied once,
// readdressed, and queued to everybody else in the sender's set, with an IDLE for the sender. Neither are
// grouped; what waits for one receiver is written together. A sender waits while more than a bound is queued for anybody.
// The zero value is ready; Serve may be called from any goroutine.
type Floor struct {
	mu   sync.Mutex
	sets map[string]*floorSet // guarded by mu
}

// floorSet is who gets each other's casts.
type floorSet struct {
	members atomic.Pointer[[]*floorMember]
} // replaced under Floor.mu, never changed

func (s *floorSet) all() []*floorMember {
	if s == nil {
		return nil
	}
	return *s.members.Load()
}

// floorMember is one client of a Floor.
type floorMember struct {
	nc     net.Conn
	set    *floorSet    // owned by the reader; nil before FloorOpen
	queued atomic.Int64 // bytes, those that are being written included

	mu sync.Mutex
	// guarded by mu
	pieces [][]byte
	closed bool
	some   sync.Cond // pieces or closed
	room   sync.Cond // queued fell below the bound, or closed
}

// Serve speaks to one client, to which headers and commands are known, until
// its connection ends.
func (f *Floor) Serve(nc net.Conn) error {
	m := &floorMember{nc: nc}
	m.some.L, m.room.L = &m.mu, &m.mu
	var writer sync.WaitGroup
	writer.Go(m.write) // ends with close
	defer writer.Wait()
	defer m.close()
	defer f.leave(m)
	return f.read(m)
}

// enter puts m into the set of that name, and of no other.
func (f *Floor) enter(m *floorMember, name string) {
	f.leave(m)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sets == nil {
		f.sets = make(map[string]*floorSet)
	}
	s := f.sets[name]
	if s == nil {
		s = new(floorSet)
		f.sets[name] = s
		s.members.Store(new([]*floorMember))
	}
	more := append(slices.Clone(s.all()), m)
	s.members.Store(&more)
	m.set = s
}

func (f *Floor) leave(m *floorMember) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.set == nil {
		return
	}
	fewer := slices.DeleteFunc(slices.Clone(m.set.all()), func(other *floorMember) bool { return other == m })
	m.set.members.Store(&fewer)
	m.set = nil
}

var errFloorLarge = errors.New("a frame that the floor has no room for")

func (f *Floor) read(m *floorMember) error {
	buf := make([]byte, floorRead)
	filled := 0
	for {
		n, err := m.nc.Read(buf[filled:])
		if err != nil {
			return err
		}
		filled += n
		left := buf[:filled]
		set := m.set.all()
		for {
			frame, rest, ok := wire.CutFrame(left)
			if !ok {
				break
			}
			one := left[:len(left)-len(rest)]
			left = rest
			switch frame.Cmd {
			case FloorOpen:
				f.enter(m, string(frame.Payload))
				set = m.set.all()
			case FloorCast:
				cast(set, m, one)
			default:
				return fmt.Errorf("the floor has no command %d", frame.Cmd)
			}
			m.queue(wire.AppendIdle(nil, frame.Cmd, frame.Branch, wire.NoErrors, nil))
		}
		if filled = copy(buf, left); filled == len(buf) {
			if len(buf) >= floorFrame {
				return errFloorLarge
			}
			buf = append(buf, make([]byte, len(buf))...)
		}
		for _, other := range set {
			if other != m {
				other.awaitRoom()
			}
		}
		m.awaitRoom()
	}
}

// cast queues one frame to everybody but its sender.
func cast(set []*floorMember, from *floorMember, frame []byte) {
	shared := slices.Clone(frame)
	wire.Readdress(shared, wire.CmdID(wire.AsyncCast), 0)
	for _, m := range set {
		if m != from {
			m.queue(shared)
		}
	}
}

func (m *floorMember) queue(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.queued.Add(int64(len(b)))
	m.pieces = append(m.pieces, b)
	if len(m.pieces) == 1 {
		m.some.Signal()
	}
}

func (m *floorMember) awaitRoom() {
	if m.queued.Load() <= floorQueue {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.queued.Load() > floorQueue && !m.closed {
		m.room.Wait()
	}
}

func (m *floorMember) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.nc.Close()
	m.some.Broadcast()
	m.room.Broadcast()
}

// write writes what is queued until the connection ends.
func (m *floorMember) write() {
	defer m.close()
	buf := make([]byte, 0, floorWrite)
	var taken [][]byte
	for {
		m.mu.Lock()
		for len(m.pieces) == 0 && !m.closed {
			m.some.Wait()
		}
		if m.closed {
			m.mu.Unlock()
			return
		}
		taken, m.pieces = m.pieces, taken[:0]
		m.mu.Unlock()
		for left := taken; len(left) > 0; {
			out := left[0]
			if len(out) >= floorLarge {
				left = left[1:]
			} else {
				buf = buf[:0]
				for len(left) > 0 && len(left[0]) < floorLarge && len(buf)+len(left[0]) <= floorWrite {
					buf = append(buf, left[0]...)
					left = left[1:]
				}
				out = buf
			}
			if _, err := m.nc.Write(out); err != nil {
				return
			}
			gone := int64(len(out))
			if now := m.queued.Add(-gone); now <= floorQueue && now+gone > floorQueue {
				m.mu.Lock()
				m.room.Broadcast()
				m.mu.Unlock()
			}
		}
		clear(taken)
	}
}
