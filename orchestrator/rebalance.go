package orchestrator

import "slices"

// Rebalance is the rebalancing step alone. It takes how many instances of each
// task are to be added and what each worker is to remove and does, and returns
// both with what has to move besides: what an overfull worker has too much of is
// among its removals, and counted among what is to be added. When all that is
// removed, and what is to be added goes to the emptiest workers that do not have
// it yet, every worker ends with the floor or the ceiling of the mean, by the
// fewest moves. Workers that are not in actual get nothing.
//
// Nothing is called, and the arguments are not changed. If nothing has to move, what
// it returns equals them deeply, but for maps that are nil.
func (*Orchestrator[W, T]) Rebalance(toAdd map[T]int, toRemove, actual map[W][]T) (map[T]int, map[W][]T) {
	add, remove := make(map[T]int, len(toAdd)), make(map[W][]T, len(toRemove))
	count := map[T]int{}
	for t, n := range toAdd {
		add[t] = n
		if n > 0 {
			count[t] = n
		}
	}
	for w, tasks := range toRemove {
		remove[w] = slices.Clone(tasks) // an empty one stays empty, not nil: callers compare
	}
	states := make([]WorkerState[W, T], 0, len(actual))
	for w, tasks := range actual {
		skip := make(map[T]bool, len(tasks))
		for _, t := range toRemove[w] {
			skip[t] = true
		}
		s := WorkerState[W, T]{Name: w}
		for _, t := range tasks {
			if !skip[t] {
				skip[t] = true
				s.Tasks = append(s.Tasks, t)
				count[t]++
			}
		}
		states = append(states, s)
	}
	tasks := make([]Task[T], 0, len(count))
	for t, n := range count {
		tasks = append(tasks, Task[T]{t, n})
	}
	moved, _, err := newDesk[W, T]().plan(tasks, states)
	if err != nil {
		return add, remove // plain tasks and workers are always valid
	}
	for _, x := range moved {
		remove[x.worker] = append(remove[x.worker], x.task)
		add[x.task]++
	}
	return add, remove
}
