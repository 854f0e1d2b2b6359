package orchestrator

// Rebalance is the rebalancing step alone: it takes what each worker does and
// what is about to be added to and removed from it, and returns what to add and
// to remove instead, so that every worker ends with the floor or the ceiling of
// the mean by the fewest moves. Nothing is lost: the same tasks run in the end,
// as often as before, never twice on one worker. Workers that are not in actual
// get nothing. The arguments are not changed.
func Rebalance[W, T comparable](toAdd, toRemove map[W][]T, actual []WorkerState[W, T]) (add, remove map[W][]T) {
	count := map[T]int{}
	var tasks []Task[T] // in the order of first sight
	for _, s := range actual {
		gone, seen := map[T]bool{}, map[T]bool{}
		for _, t := range toRemove[s.Name] {
			gone[t] = true
		}
		does := func(t T) {
			if seen[t] {
				return
			}
			seen[t] = true
			if count[t]++; count[t] == 1 {
				tasks = append(tasks, Task[T]{Name: t})
			}
		}
		for _, t := range s.Tasks {
			if !gone[t] {
				does(t)
			}
		}
		for _, t := range toAdd[s.Name] {
			does(t)
		}
	}
	for i := range tasks {
		tasks[i].Instances = count[tasks[i].Name]
	}
	d := newDesk[W, T]()
	removals, additions, err := d.plan(tasks, actual)
	if err != nil {
		return toAdd, toRemove // plain tasks and workers are always valid
	}
	add, remove = map[W][]T{}, map[W][]T{}
	for _, x := range removals {
		remove[x.worker] = append(remove[x.worker], x.task)
	}
	for _, x := range additions {
		add[x.worker] = append(add[x.worker], x.task)
	}
	return add, remove
}
