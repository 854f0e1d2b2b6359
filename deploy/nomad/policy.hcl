# The exact rights that a scheduler with the engine nomad needs:
#
#   nomad acl policy apply -namespace default rota policy.hcl
#   nomad acl token create -name rota -policy rota
#
# Each further namespace of a pool (options.namespace) needs the same block.
namespace "default" {
  # submit-job starts and stops; list-jobs and read-job see what has become of it;
  # alloc-lifecycle has a second copy of a worker end.
  capabilities = ["submit-job", "list-jobs", "read-job", "alloc-lifecycle"]

  # Join tokens of workers, each kept until its worker has started. Read is not needed.
  variables {
    path "nomad/jobs/rota-pool-*" {
      capabilities = ["write", "list", "destroy"]
    }
  }
}

# Lists drained nodes. Without it, workers stay on them until the drain ends.
node {
  policy = "read"
}
