//go:build race

package modeltest

// raceEnabled: everything takes five times as long.
const raceEnabled = true
