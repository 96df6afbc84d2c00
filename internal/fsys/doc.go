// Package fsys is what the program does with files beyond package os.
//
// Create and Replace make files that appear complete or not at all, also when
// the machine crashes; Tidy removes what a killed process has left of them.
// Watch tells when files change, for those that a running host reads again.
// CanWrite tells beforehand what would be refused, and Descriptors how many
// files may be open.
//
// It knows files, not what is in them. A Watcher has goroutines, which its
// Close waits for, and may be used by any number of others; the functions keep
// nothing.
package fsys
