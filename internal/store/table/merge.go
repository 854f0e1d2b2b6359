package table

// run finds the neighbours that the first draft is merged with, if it is small:
// the indexes of a run of pages, what they hold together, and how many of the
// drafts are in it. Pages up to claimed are in a unit already. A run of one page
// is no merge.
func (t *Table[R]) run(drafts []draft[R], claimed int) (run []int, items []item[R], taken int) {
	d := &drafts[0]
	run, taken = []int{d.index}, 1
	if d.index < 0 || len(d.items) == 0 || float64(d.size) >= small*float64(t.pageBytes) {
		return run, nil, taken
	}
	items, size := d.items, d.size
	if t.pages[d.index].bad != nil {
		return run, nil, taken
	}
	if left := d.index - 1; left > claimed && left >= 0 && t.pages[left].bad == nil && size+t.pages[left].size <= t.pageBytes/2 {
		run = []int{left, d.index}
		items = append(t.items(left), items...)
		size += t.pages[left].size
	}
	for len(run) < maxMerge {
		right := run[len(run)-1] + 1
		if right >= len(t.pages) || t.pages[right].bad != nil {
			break
		}
		if taken < len(drafts) && drafts[taken].index == right {
			next := &drafts[taken]
			if len(next.items) == 0 || size+next.size > t.pageBytes/2 {
				break
			}
			items = append(items, next.items...)
			size += next.size
			taken++
		} else {
			if size+t.pages[right].size > t.pageBytes/2 {
				break
			}
			items = append(items, t.items(right)...)
			size += t.pages[right].size
		}
		run = append(run, right)
	}
	return run, items, taken
}

// items are the records of a page as they are.
func (t *Table[R]) items(index int) []item[R] {
	recs := t.pages[index].recs
	items := make([]item[R], len(recs))
	for i := range recs {
		items[i].rec = &recs[i]
	}
	return items
}

// merge is the unit that puts items into the first page of the run and deletes
// the others.
func (t *Table[R]) merge(run []int, items []item[R]) (Unit, error) {
	var u Unit
	for _, index := range run {
		t.condition(&u, index)
	}
	if err := t.write(&u, run[0], t.pages[run[0]].bound, records(items)); err != nil {
		return Unit{}, err
	}
	for _, index := range run[1:] {
		t.remove(&u, index)
	}
	return u, nil
}
