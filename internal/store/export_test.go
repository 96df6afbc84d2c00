package store

import "testing"

// Pragma returns a setting of the writing connection.
func (s *Store) Pragma(t *testing.T, name string) string {
	t.Helper()
	var value string
	if err := s.w.QueryRow("PRAGMA " + name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// WriteByReader tries to write on a reading connection.
func (s *Store) WriteByReader() error {
	_, err := s.r.Exec(updateNobody)
	return err
}
