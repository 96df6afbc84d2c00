package conn

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of what a writer moves, in bytes: pieces below largePiece are gathered
// into one write of up to writeSize, larger ones are written from where they
// are. What a session makes of one read, casts above all, fits one write.
const (
	writeSize  = wideSize
	largePiece = 32 << 10
	// chunkSize is what copied frames are collected in.
	chunkSize = 8 << 10
	// pieceOverhead is what a queued piece costs besides its bytes. It counts,
	// so that a flood of empty frames cannot hide from the bound.
	pieceOverhead = 40
)

// writeBuffer has room for one write and the overhead of its TLS records.
type writeBuffer struct{ b []byte }

const writeBufferSize = writeSize + 2<<10

var (
	writePool = sync.Pool{New: func() any { return &writeBuffer{b: make([]byte, writeBufferSize)} }}
	chunkPool = sync.Pool{New: func() any { return &writeBuffer{b: make([]byte, chunkSize)} }}
)

// Release gives a buffer back to its pool. One that has grown is left to the
// garbage collector.
func (w *writeBuffer) Release() {
	switch cap(w.b) {
	case chunkSize:
		chunkPool.Put(w)
	case writeBufferSize:
		w.b = w.b[:writeBufferSize]
		writePool.Put(w)
	}
}

// piece is a row of bytes to be written. Its memory is released when it has been
// copied or written; nil: it is not used again, or a piece behind it has it too
// and releases it.
type piece struct {
	b      []byte
	memory interface{ Release() }
}

// release gives the piece's memory back, once.
func (p *piece) release() {
	if p.memory != nil {
		p.memory.Release()
		p.memory = nil
	}
}

// sendQueue holds what a client has not been sent yet.
type sendQueue struct {
	conn *Conn

	mu        sync.Mutex
	pieces    []piece
	bytes     int           // of pieces and of what the writer holds, overhead included
	active    bool          // somebody is the writer
	full      bool          // the bound was passed or the connection ended: nothing is written any more
	sealed    bool          // Finish was called: nothing is queued any more
	own       ledger        // what Append has queued, not Offer
	high, low int           // bytes of own above which the queue is congested, and below which it is drained
	congested bool          // somebody waits for the queue to drain
	whenIdle  chan struct{} // set when sealed; closed when all has been written
	onDrain   func()
	written   uint64    // bytes that have left, ever; those in bytes follow them
	waiters   []*waiter // for written to reach a position
	// The chunk that has room left, its piece, and how much of it is used. A
	// piece of its own for each small frame between two shared ones would let
	// the queue hold far more memory than it counts.
	tail     *writeBuffer // nil: none
	tailAt   int
	tailUsed int

	began atomic.Int64 // 1 + when the write began in which the writer may stand, after born; 0: none

	// Owned by the writer, whoever has set active.
	taken []piece // pieces that the writer has taken
	next  int     // the first of them that has not been written
	open  bool    // a write has been gathered and not been finished
	rest  []byte  // of that write, what the stream has not taken
	held  int     // bytes that leave the count when the write is finished
	buf   *writeBuffer
	// deadline is set while the connection has a write deadline: it must be
	// gone before the next writer tries to write without waiting.
	deadline bool
}

// Append queues a copy of the frames in b. It never waits. It returns
// ErrSlowConsumer, and the connection ends, when the queue's bound is passed;
// on an ended connection it returns ErrClosed.
func (c *Conn) Append(b []byte) error { return c.AppendBoth(b, nil) }

// copyLocked queues a copy of b and returns what it costs.
func (q *sendQueue) copyLocked(b []byte) (cost int) {
	for len(b) > chunkSize {
		n := min(len(b), writeSize)
		if n < largePiece {
			n = chunkSize // a large buffer is for what fills most of it
			cost += q.chunkLocked(b[:n])
		} else {
			w := writePool.Get().(*writeBuffer)
			cost += q.shareLocked(append(w.b[:0], b[:n]...), w)
		}
		b = b[n:]
	}
	return cost + q.chunkLocked(b)
}

// chunkLocked queues a copy of b, which fits a chunk, and returns what it costs.
func (q *sendQueue) chunkLocked(b []byte) int {
	last := len(q.pieces) - 1
	switch {
	case q.tail == nil || chunkSize-q.tailUsed < len(b):
		q.tail, q.tailUsed = chunkPool.Get().(*writeBuffer), 0
	case q.tailAt == last:
		q.pieces[last].b = append(q.pieces[last].b, b...)
		q.tailUsed += len(b)
		return len(b)
	default:
		q.pieces[q.tailAt].memory = nil
	}
	q.pieces = append(q.pieces, piece{b: append(q.tail.b[q.tailUsed:q.tailUsed], b...), memory: q.tail})
	q.tailAt = last + 1
	q.tailUsed += len(b)
	return len(b) + pieceOverhead
}

// AppendShared queues the frames in b without copying them; b is never changed
// again by anybody. It never waits and fails as Append does.
func (c *Conn) AppendShared(b []byte) error { return c.AppendBoth(nil, b) }

// AppendBoth is Append for the frames in b and AppendShared for what follows them,
// in one step: a frame that begins in the one and ends in the other stays whole,
// whatever others queue.
func (c *Conn) AppendBoth(b, shared []byte) error {
	if len(b)+len(shared) == 0 {
		return nil
	}
	q := &c.queue
	q.mu.Lock()
	if q.full || q.sealed {
		q.mu.Unlock()
		return ErrClosed
	}
	cost := 0
	if len(b) > 0 {
		cost = q.copyLocked(b)
	}
	if len(shared) > 0 {
		cost += q.shareLocked(shared, nil)
	}
	return q.added(cost)
}

// shareLocked queues b without a copy, and returns what it costs. memory is
// released when b has been written or dropped; nil: nobody uses it again.
func (q *sendQueue) shareLocked(b []byte, memory interface{ Release() }) int {
	q.pieces = append(q.pieces, piece{b: b, memory: memory})
	return len(b) + pieceOverhead
}

// added counts what was queued, checks the bound, and unlocks mu, which is
// held.
func (q *sendQueue) added(bytes int) error {
	q.bytes += bytes
	q.own.add(bytes, q.written+uint64(q.bytes))
	over := q.bytes > q.conn.cfg.Load().QueueBytes
	q.full = over
	q.mu.Unlock()
	if over {
		q.conn.endSlow()
		return ErrSlowConsumer
	}
	return nil
}

// drop empties the queue of an ended connection.
func (q *sendQueue) drop() {
	q.mu.Lock()
	q.full = true
	q.dropLocked()
	waiting := q.waiters
	q.waiters = nil
	q.mu.Unlock()
	for _, w := range waiting {
		w.f()
	}
}

func (q *sendQueue) dropLocked() {
	for i := range q.pieces {
		q.pieces[i].release()
	}
	q.written += uint64(q.bytes)
	q.pieces, q.tail, q.bytes = nil, nil, 0
}

// Queued returns how many bytes wait to be sent, with some overhead per piece;
// 0 when the connection has ended.
func (c *Conn) Queued() int {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.bytes
}

// OnDrain sets the function that is called, on the writer's goroutine, when
// the queue has drained after Congested was true. It is set before the first
// frame is queued and must not wait.
func (c *Conn) OnDrain(f func()) { c.queue.onDrain = f }

// Congested reports whether so much is queued that who makes more output
// should wait. When it returns true, the function set by OnDrain will be
// called once the queue has drained, unless the connection ends before.
//
// What counts is what Append has queued. Of what others have offered only half
// the queue's bound does: a client that reads more slowly than others send must
// still be able to leave them.
func (c *Conn) Congested() bool {
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full || q.withinLocked(q.high) {
		return false
	}
	q.congested = true
	return true
}

// withinLocked reports whether no more than mark bytes of own output wait, and
// not half of what the queue may hold.
func (q *sendQueue) withinLocked(mark int) bool {
	return q.bytes <= mark || q.own.waiting(q.written) <= mark && q.bytes <= max(mark, q.conn.cfg.Load().QueueBytes/2)
}

// ledger counts what waits of some of a queue's bytes, by the position up to
// which the queue has been written. It does not note each piece, but two spans:
// what is being added, and what was added before. It never counts less than what
// waits, and more only while bytes of others stand in between.
type ledger struct{ old, now span }

// span is bytes that were added up to a position, behind the span before.
type span struct {
	bytes int
	end   uint64
}

// left returns how many of the bytes are behind the position from, at most.
func (s span) left(from uint64) int {
	if from >= s.end {
		return 0
	}
	return int(min(uint64(s.bytes), s.end-from))
}

func (l *ledger) add(bytes int, end uint64) {
	l.now.bytes += bytes
	l.now.end = end
}

func (l *ledger) waiting(written uint64) int {
	if written >= l.old.end {
		l.old, l.now = l.now, span{}
	}
	return l.old.left(written) + l.now.left(max(written, l.old.end))
}

// seal lets nothing more into the queue. It returns a channel that is closed
// when all that is there has been written, from when on nobody is the writer.
func (q *sendQueue) seal() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.sealed {
		q.sealed = true
		q.whenIdle = make(chan struct{})
		if !q.active && len(q.pieces) == 0 {
			close(q.whenIdle)
		}
	}
	return q.whenIdle
}

// Flush writes what the socket takes without waiting, and leaves the rest to a
// writer goroutine. It does nothing when a writer is active already.
func (c *Conn) Flush() {
	q := &c.queue
	if !q.begin() {
		return
	}
	if c.stream.raw == nil {
		go q.write()
		return
	}
	var (
		done bool
		err  error
	)
	for range maxDirectWrites {
		if done, err = q.step(false); done || err != nil {
			break
		}
	}
	switch {
	case done:
	case err == nil, errors.Is(err, errWouldBlock):
		go q.write() // ends when the queue is empty or the connection ends
	default:
		q.fail(err)
	}
}

// maxDirectWrites is how many writes Flush makes itself: its caller has other
// things to do than to feed a socket that takes everything.
const maxDirectWrites = 16

// Kick starts a writer goroutine for what is queued, unless one is active. It
// does no I/O itself.
func (c *Conn) Kick() {
	if c.queue.begin() {
		go c.queue.write()
	}
}

// begin makes the caller the writer, if there is work and no writer.
func (q *sendQueue) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.active || len(q.pieces) == 0 {
		return false
	}
	q.active = true
	return true
}

// write is the writer goroutine. It ends when the queue is empty or the
// connection has ended; a deadline bounds each wait. Nobody waits for it but
// Finish: once the connection has been ended it writes nothing, and calls nobody
// who is not ready for calls at any time.
func (q *sendQueue) write() {
	for {
		before := q.conn.stream.written
		done, err := q.step(true)
		switch {
		case done:
			return
		case err == nil:
		case !isTimeout(err):
			q.fail(err)
			return
		case q.conn.stream.written == before:
			q.fail(fmt.Errorf("%w: took no byte for %v", ErrSlowConsumer, q.conn.cfg.Load().WriteTimeout))
			return
		}
	}
}

// fail ends the connection of a write that went wrong. The caller stays the
// writer for ever: nothing can be written any more.
func (q *sendQueue) fail(err error) {
	q.mu.Lock()
	q.full = true
	q.mu.Unlock()
	if !errors.Is(err, ErrSlowConsumer) {
		err = fmt.Errorf("write: %w", err)
	}
	q.conn.End(err)
}

// step makes one write. It returns done when the queue is empty; the caller is
// then the writer no longer.
func (q *sendQueue) step(block bool) (done bool, err error) {
	if !q.open {
		if !q.gather() {
			return true, nil
		}
		q.open = true
	}
	if block {
		now := time.Now()
		if err := q.conn.stream.nc.SetWriteDeadline(now.Add(q.conn.cfg.Load().WriteTimeout)); err != nil {
			return false, err
		}
		q.standing(now)
		q.deadline = true
	}
	n, err := q.conn.stream.write(q.rest, block)
	q.rest = q.rest[n:]
	if err != nil {
		return false, err
	}
	q.open, q.rest = false, nil // an empty rest would keep the memory that it is in
	if block {
		q.began.Store(0)
	}
	q.wrote()
	return false, nil
}

// gather makes rest the next bytes to be written. It returns false, and gives
// up the writer's role, when there are none.
func (q *sendQueue) gather() bool {
	if q.next > 0 { // written; how far behind the end of taken is does not count
		q.taken[q.next-1].release()
		q.taken[q.next-1].b = nil
	}
	if q.next == len(q.taken) && !q.take() {
		return false
	}
	first := q.taken[q.next]
	q.held = len(first.b) + pieceOverhead
	if len(first.b) >= largePiece || q.next+1 == len(q.taken) {
		q.rest = first.b
		q.next++
		return true
	}
	end, size := q.run()
	out := q.buffer(size)
	q.held = 0
	for ; q.next < end; q.next++ {
		p := &q.taken[q.next]
		out = append(out, p.b...)
		q.held += len(p.b) + pieceOverhead
		p.release()
		p.b = nil // of up to the whole bound, which the queue may fill again meanwhile
	}
	q.rest = out
	return true
}

// run finds the pieces that go into one write: up to which, and their size.
func (q *sendQueue) run() (end, size int) {
	for end = q.next; end < len(q.taken); end++ {
		n := len(q.taken[end].b)
		if n >= largePiece || size+n > writeSize {
			break
		}
		size += n
	}
	return end, size
}

// buffer returns an empty buffer with room for size bytes. A small write gets a
// small one: many clients are often written to at once.
func (q *sendQueue) buffer(size int) []byte {
	if q.buf != nil && len(q.buf.b) < size {
		q.releaseBuffer()
	}
	switch {
	case q.buf != nil:
	case size <= chunkSize:
		q.buf = chunkPool.Get().(*writeBuffer)
	default:
		q.buf = writePool.Get().(*writeBuffer)
	}
	return q.buf.b[:0]
}

func (q *sendQueue) releaseBuffer() {
	if q.buf != nil {
		q.buf.Release()
		q.buf = nil
	}
}

// take moves what is queued to the writer.
func (q *sendQueue) take() bool {
	for i := range q.taken {
		q.taken[i].release()
		q.taken[i] = piece{}
	}
	spare := q.taken[:0]
	q.taken, q.next = nil, 0
	if cap(spare) > 4 {
		spare = nil // an idle connection holds next to nothing
	}
	if q.deadline {
		// Fails on a closed connection only, and then so does the next write.
		_ = q.conn.stream.nc.SetWriteDeadline(time.Time{})
		q.deadline = false
	}
	q.releaseBuffer()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pieces) == 0 || q.full {
		q.active = false
		if q.full {
			q.dropLocked()
		}
		q.pieces = spare
		if q.sealed {
			// Once only: what is sealed and empty never has a writer again.
			close(q.whenIdle)
		}
		return false
	}
	q.taken, q.pieces, q.tail = q.pieces, spare, nil
	return true
}

// wrote counts a finished write out, and calls who waits for the queue to
// drain.
func (q *sendQueue) wrote() {
	q.mu.Lock()
	if !q.full { // an ended connection's queue counts nothing
		q.bytes -= q.held
		q.written += uint64(q.held)
	}
	due := q.dueLocked()
	call := q.congested && q.withinLocked(q.low)
	if call {
		q.congested = false
	}
	q.mu.Unlock()
	q.held = 0
	if call && q.onDrain != nil {
		q.onDrain()
	}
	for _, w := range due {
		w.f()
	}
}
