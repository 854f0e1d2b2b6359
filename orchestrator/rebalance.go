package orchestrator

import "slices"

// Rebalance is the rebalancing step alone. Its arguments are the number of instances of
// each task to add, and what each worker is to remove and what it runs. It returns the
// first two with the necessary moves added: the surplus of an overfull worker is among its
// removals, and counted among the additions. When everything in the second map is removed,
// and everything in the first is added on the emptiest workers that do not have it yet,
// every worker ends with the floor or the ceiling of the mean, by the fewest moves. Workers
// that are not in actual get nothing.
//
// It calls nothing and does not change its arguments. If no move is necessary, the results
// equal them deeply, except for nil maps.
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
