package session

import (
	"sync"

	"mrci.dev/mrci/wire"
)

// scratchSize is how much the owner collects before it goes to the send queue,
// in bytes; larger payloads go there without a copy.
const scratchSize = 8 << 10

// largePayload is the size from which a payload is not copied, in bytes.
const largePayload = 4 << 10

type scratch struct{ b []byte }

var scratchPool = sync.Pool{New: func() any { return &scratch{b: make([]byte, 0, scratchSize)} }}

// frame sends a frame to the client. The payload is not kept when it is small
// and never changed when it is large.
func (s *Session) frame(t wire.TypeID, cmd wire.CmdID, branch wire.BranchID, payload []byte) {
	if len(payload) > wire.MaxPayload {
		payload = payload[:wire.MaxPayload] // no built-in command sends so much; a module cannot
	}
	if s.debug != nil {
		s.logFrame("frame out", t, cmd, branch, len(payload))
	}
	whole := wire.FrameHeaderSize
	if len(payload) < largePayload {
		whole += len(payload) // header and payload go into the queue together
	}
	s.room(whole)
	s.out.b = wire.FrameHeader{Type: t, Cmd: cmd, Branch: branch, Len: len(payload)}.Append(s.out.b)
	s.bytes(payload)
}

// bytes sends whole frames, or the rest of one.
func (s *Session) bytes(b []byte) {
	if len(b) >= largePayload {
		var before []byte // its header may be the last of it: nothing comes between the two
		if s.out != nil {
			before = s.out.b
			s.out.b = before[:0]
		}
		// An error has ended the connection, and the reader sees that.
		_ = s.conn.AppendBoth(before, b)
		s.queued = true
		return
	}
	s.room(len(b))
	s.out.b = append(s.out.b, b...)
}

// idle sends the end of a call.
func (s *Session) idle(cmd wire.CmdID, branch wire.BranchID, code wire.ReturnCode, data []byte) {
	if s.debug != nil {
		s.logFrame("frame out", wire.Idle, cmd, branch, 2+len(data))
	}
	s.room(wire.FrameHeaderSize + 2 + len(data))
	s.out.b = wire.AppendIdle(s.out.b, cmd, branch, code, data)
}

// idles ends the calls that count frames of the client have begun, all well.
func (s *Session) idles(frames []byte, count int) {
	s.room(count * (wire.FrameHeaderSize + 2))
	before := len(s.out.b)
	s.out.b = wire.AppendIdles(s.out.b, frames, wire.NoErrors)
	if s.debug != nil {
		s.logFrames("frame out", s.out.b[before:])
	}
}

// logFrames is logFrame for whole frames.
func (s *Session) logFrames(what string, frames []byte) {
	for len(frames) > 0 {
		var f wire.Frame
		f, frames, _ = wire.CutFrame(frames)
		s.logFrame(what, f.Type, f.Cmd, f.Branch, len(f.Payload))
	}
}

// logFrame writes the line that log_level debug asks for: never a payload.
func (s *Session) logFrame(what string, t wire.TypeID, cmd wire.CmdID, branch wire.BranchID, bytes int) {
	s.debug.Debug(what, "type", t.String(), "cmd", cmd.String(), "branch", int(branch), "bytes", bytes)
}

// refuse answers a frame that starts no call: ERR, then IDLE.
func (s *Session) refuse(cmd wire.CmdID, branch wire.BranchID, code wire.ReturnCode, text string) {
	s.frame(wire.Err, cmd, branch, []byte(text+"\n"))
	s.idle(cmd, branch, code, nil)
}

// room makes room for n bytes in the scratch, which grows for a single payload
// that is larger than it.
func (s *Session) room(n int) {
	if s.out == nil {
		s.out = scratchPool.Get().(*scratch)
		return
	}
	if len(s.out.b)+n > scratchSize {
		s.collected()
	}
}

// collected moves the scratch to the send queue.
func (s *Session) collected() {
	if s.out == nil || len(s.out.b) == 0 {
		return
	}
	_ = s.conn.Append(s.out.b) // an error has ended the connection
	s.out.b = s.out.b[:0]
	s.queued = true
}

// flush sends what was collected, and gives the scratch back.
func (s *Session) flush() {
	if s.out != nil {
		s.collected()
		if cap(s.out.b) == scratchSize { // it has not grown
			scratchPool.Put(s.out)
		}
		s.out = nil
	}
	if s.queued {
		s.queued = false
		s.conn.Flush()
	}
}
