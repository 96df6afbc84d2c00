// Package account holds the rules for users: which names, addresses and
// passwords are accepted, how passwords are hashed, when an account is locked,
// what happens when somebody tries to log in, how accounts are changed and
// removed, by their owners and by others, and how one is recovered whose
// password is lost.
//
// It decides nothing about ranks of commands or about who may change whom
// (package access): a caller of SetRank and its like passes that decision as
// an Allow, which is asked inside the transaction of the change. It limits nothing per network address (package limit), and
// keeps nothing itself: accounts live behind the Store interface, which
// package store implements over SQL. What a person did wrong comes back as a
// *RuleError, whose text can be shown as it is; what callers branch on is a
// sentinel.
//
// A refused login never tells why: an unknown user, a wrong password and a
// locked account cost the same hash, the same transactions and the same delay,
// and give the same ErrRefused; recoveries likewise. A name that nobody has gets
// an account that stands in for it: its hash is what the password is checked
// against, its row is what is read and written as it was, and the attempt is
// reported like any other, without a user. Counters and locks are judged and changed in
// one transaction after the hash, so attempts that run side by side cannot
// have more tries than the limit allows.
//
// Passwords are bytes that their owner wipes (Secret); no function here keeps a
// copy. A stored hash is the text
//
//	$argon2id-sha512$v=19$m=KIB,t=PASSES,p=LANES$SALT$SUM
//
// in base64 without padding: Argon2id, with that salt, of the SHA-512 of the
// salt in 64 bytes with zeros behind it, the length of the password in eight
// bytes, most significant first, the UTF-8 of the password, and zeros up to a
// multiple of 128 bytes. Records of $argon2id$, of the password itself, are
// checked too, and replaced by the form above when their password was right.
//
// Service and Hasher are safe for concurrent use. The rules themselves are
// functions without I/O. See state 2 and 3, commands 2 and 3.
package account
