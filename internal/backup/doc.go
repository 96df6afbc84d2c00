// Package backup saves what a host keeps into one file, while the host runs or
// not, and puts it back.
//
// An archive is a tar in gzip. Its first member, manifest.json, says what
// follows: data.db, conf.json, the certificate and the key that the host made,
// mail templates and, if wanted, the users' files. Sizes and SHA-256 of all of
// it are in the manifest, so that a reader accepts an archive as a whole or
// not at all. It holds passwords' hashes, the private key and what conf.json
// has of passwords, in the clear: whoever can read it can be the host.
//
// Restore reads and checks everything in a scratch directory beside the target
// and moves it into place by renames. What was there is moved away, never
// removed. Between the first rename and the last a marker is in the data
// directory; Unfinished finds it after a crash, and the next Restore starts
// anew. It never writes outside the directories that it is given.
//
// An archive is input that may be damaged or made by somebody else: names,
// kinds and sizes are compared with what can be there, and nothing is read or
// stored beyond what the manifest announces. It is not signed. Who restores an
// archive trusts whoever could write to it, as he trusts conf.json.
//
// Nothing here is safe for concurrent use except by several programs: they do
// not disturb each other. What the host's files are is told by the
// specification, state 1, 4 and 8.
package backup
