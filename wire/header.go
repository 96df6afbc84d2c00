package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// Sizes of the two headers and their fields, in bytes (protocol 1).
const (
	ClientHeaderSize = 292
	HostHeaderSize   = 37
	AppNameSize      = 32
	ModInstSize      = 128

	clientPadding = 128 // behind modInst: zeros or the extension request
)

// Tag opens every client header (protocol 1).
const Tag = "MRCI"

// extensionTag opens the extension request inside the padding (extensions).
const extensionTag = "EXT1"

// Extensions is the set of additions that a client asked for, or that the host
// grants. A client that asks for none never sees one.
type Extensions uint32

// The extensions that exist.
const (
	// ExtSchema puts a JSON Schema of the arguments behind the three texts of
	// NEW_CMD, as a fourth null terminated text.
	ExtSchema Extensions = 1 << 0
)

// Has reports whether all of want are in the set.
func (e Extensions) Has(want Extensions) bool { return e&want == want }

// ClientHeader is what a client sends first (protocol 1).
type ClientHeader struct {
	AppName string // the client program and its version; at most 32 bytes
	ModInst string // arguments for every module process of the session; at most 128 bytes
	// Requested is set when the padding holds an extension request; Wanted is
	// then what it asks for. A request for nothing is still a request.
	Requested bool
	Wanted    Extensions
}

// Append adds the 292 bytes of the header to dst. Texts that are too long are
// cut at a character boundary.
func (h ClientHeader) Append(dst []byte) []byte {
	dst = append(dst, Tag...)
	dst = appendFixed(dst, h.AppName, AppNameSize)
	dst = appendFixed(dst, h.ModInst, ModInstSize)
	var pad [clientPadding]byte
	if h.Requested {
		copy(pad[:], extensionTag)
		binary.LittleEndian.PutUint32(pad[len(extensionTag):], uint32(h.Wanted))
	}
	return append(dst, pad[:]...)
}

// ParseClientHeader decodes the 292 bytes of a client header. Only the tag
// must be right: like the hosts that clients know, it takes any names, cuts
// them at the first zero byte and replaces what is not UTF-8, and takes a
// padding that is no extension request as none.
func ParseClientHeader(b *[ClientHeaderSize]byte) (ClientHeader, error) {
	if string(b[:len(Tag)]) != Tag {
		return ClientHeader{}, &FormatError{Layout: "client header", Field: "tag", Offset: 0, Want: Tag}
	}
	h := ClientHeader{
		AppName: fixedText(b[4:36]),
		ModInst: fixedText(b[36:164]),
	}
	pad := b[164:]
	if string(pad[:4]) == extensionTag && len(bytes.TrimRight(pad[8:], "\x00")) == 0 {
		h.Requested = true
		h.Wanted = Extensions(binary.LittleEndian.Uint32(pad[4:]))
	}
	return h, nil
}

// Reply is the first byte of the host header (protocol 1).
type Reply uint8

// The replies.
const (
	ReplyClear Reply = 1 // go on in clear text
	ReplyTLS   Reply = 2 // a TLS handshake starts now
)

// Version is the edition of the protocol that a host serves (protocol 1).
type Version struct {
	Major, Minor, TCPRev, ModRev uint16
}

// Served is the edition that revision 2 announces, always (protocol 1).
var Served = Version{Major: 5, Minor: 1, TCPRev: 2, ModRev: 1}

// HostHeader is what the host answers (protocol 1).
type HostHeader struct {
	Reply   Reply
	Version Version
	Session SessionID
}

// Append adds the 37 bytes of the header to dst.
func (h HostHeader) Append(dst []byte) []byte {
	dst = append(dst, byte(h.Reply))
	dst = binary.LittleEndian.AppendUint16(dst, h.Version.Major)
	dst = binary.LittleEndian.AppendUint16(dst, h.Version.Minor)
	dst = binary.LittleEndian.AppendUint16(dst, h.Version.TCPRev)
	dst = binary.LittleEndian.AppendUint16(dst, h.Version.ModRev)
	return append(dst, h.Session[:]...)
}

// ParseHostHeader decodes the 37 bytes of a host header. It refuses replies
// that do not exist and a revision other than 2.
func ParseHostHeader(b *[HostHeaderSize]byte) (HostHeader, error) {
	h := HostHeader{
		Reply: Reply(b[0]),
		Version: Version{
			Major:  binary.LittleEndian.Uint16(b[1:]),
			Minor:  binary.LittleEndian.Uint16(b[3:]),
			TCPRev: binary.LittleEndian.Uint16(b[5:]),
			ModRev: binary.LittleEndian.Uint16(b[7:]),
		},
		Session: SessionID(b[9:]),
	}
	if h.Reply != ReplyClear && h.Reply != ReplyTLS {
		return HostHeader{}, &FormatError{Layout: "host header", Field: "reply", Offset: 0, Want: "1 or 2"}
	}
	if h.Version.TCPRev != Served.TCPRev {
		return HostHeader{}, &FormatError{Layout: "host header", Field: "tcp_rev", Offset: 5, Want: "2"}
	}
	return h, nil
}

// appendFixed adds text to dst, cut to at most size bytes at a character
// boundary and padded with zero bytes to exactly size.
func appendFixed(dst []byte, text string, size int) []byte {
	text = CutText(text, size)
	dst = append(dst, text...)
	for range size - len(text) {
		dst = append(dst, 0)
	}
	return dst
}

// CutText cuts text to at most size bytes without splitting a character.
func CutText(text string, size int) string {
	if len(text) <= size {
		return text
	}
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size]
}

// fixedText decodes a fixed-size text field: up to the first zero byte. Bytes
// that are not UTF-8 become U+FFFD, except for a character that the end of a
// full field has cut off, which goes. The text is never longer than the field,
// so that it fits where it came from.
func fixedText(b []byte) string {
	size := len(b)
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	} else {
		for cut := 1; cut < utf8.UTFMax && cut <= len(b); cut++ {
			if tail := b[len(b)-cut:]; utf8.RuneStart(tail[0]) {
				if !utf8.FullRune(tail) {
					b = b[:len(b)-cut]
				}
				break
			}
		}
	}
	return CutText(validText(b), size)
}

// validText returns b as text, with U+FFFD for each run of bytes that are not
// UTF-8.
func validText(b []byte) string {
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
