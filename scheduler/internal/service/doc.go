// Package service answers the API, rota.v1, from a scheduler's view of the
// store: any scheduler answers any call. What a call changes it writes to the
// store, where the leader and everybody else see it.
//
// It decides nothing: plans and reasons come from package placement, asked about
// the assignment as the view has it.
package service
