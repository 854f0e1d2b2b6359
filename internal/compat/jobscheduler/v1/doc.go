// Package jobschedulerv1 is the API of the old scheduler-worker-grpc as its
// clients and workers speak it, generated from jobscheduler.proto.
package jobschedulerv1
