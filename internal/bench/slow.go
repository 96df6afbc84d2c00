package bench

import "context"

func (b *Bench) slow(ctx context.Context) ([]Row, error)  { return nil, nil }
func (b *Bench) crowd(ctx context.Context) ([]Row, error) { return nil, nil }
