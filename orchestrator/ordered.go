package orchestrator

import "iter"

// ordered is a map that remembers in which order its keys came.
type ordered[K comparable, V any] struct {
	list []item[K, V]
	at   map[K]int // where in the list
}

type item[K comparable, V any] struct {
	key   K
	value V
	gone  bool // removed; the list is tidied when half of it is
}

func (m *ordered[K, V]) len() int { return len(m.at) }

func (m *ordered[K, V]) has(k K) bool {
	_, ok := m.at[k]
	return ok
}

func (m *ordered[K, V]) set(k K, v V) {
	if m.at == nil {
		m.at = map[K]int{}
	}
	if i, ok := m.at[k]; ok {
		m.list[i].value = v
		return
	}
	m.at[k] = len(m.list)
	m.list = append(m.list, item[K, V]{key: k, value: v})
}

func (m *ordered[K, V]) remove(k K) {
	i, ok := m.at[k]
	if !ok {
		return
	}
	delete(m.at, k)
	m.list[i] = item[K, V]{gone: true}
	if len(m.list) <= 2*len(m.at) {
		return
	}
	kept := m.list[:0]
	for _, x := range m.list {
		if !x.gone {
			m.at[x.key] = len(kept)
			kept = append(kept, x)
		}
	}
	clear(m.list[len(kept):])
	m.list = kept
}

// all goes through the map in the order in which the keys came.
func (m *ordered[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, x := range m.list {
			if !x.gone && !yield(x.key, x.value) {
				return
			}
		}
	}
}
