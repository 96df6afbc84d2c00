// Package modeltest compares a running host with a reference model: what the
// specification says about channels, casts, presence and peers, kept in maps.
// It has no code of its own, only tests.
//
// TestLockstep lets one client do something, asks the model who has to get
// which frames, and compares every byte that every client gets: nothing that
// the model does not say, nothing missing, and what one session causes in the
// order in which it was caused. TestConcurrent lets all clients act at once,
// and judges what they got by what was possible and what was certain between
// the beginning and the end of each call. TestRevokedWhileOpened lets two calls
// meet again and again: one opens a sub-channel, one takes the right to it away.
//
//	world      who there is, and what stands open (state 1 and 9)
//	logins, members, subs, presence, peers, lists
//	           what commands do (commands 2, 3 and 6 to 8)
//	inbox      what a session has to get and has not got yet
//	generator  draws the next step from a seed
//	runner     does the steps, on a host (clients) or on the model alone (mirror)
//	history    what happened at the same time, and who judges it
//	storm      makes such a history
//
// A failure names the seed; MRCI_TEST_SEED=N repeats the run with it.
// MRCI_TEST_LONG=1 does ten million steps instead of CI's number, and
// MRCI_TEST_STEPS=N does as many as that.
package modeltest
