// Package simtest tries a whole control plane in one process: schedulers on a
// store with faults, workers behind connections with faults, tasks that change,
// all of it following from one seed. Under testing/synctest a minute of it takes
// milliseconds. Its tests, and `make seeds`, call it.
//
//	driver ──▶ schedulers ──▶ internal/store/faulty ──▶ store/memory ◀── auditor
//	   │            ▲                                              │
//	   └──▶ workers ┘ (net: cut, held up, late)                    ▼
//	           └── task functions ──────────────────────────▶ history
//
// The history is told by the task functions themselves who runs what, and the
// auditor reads the store beside everybody; neither believes what the control
// plane says of itself. It must never be part of the product.
package simtest
