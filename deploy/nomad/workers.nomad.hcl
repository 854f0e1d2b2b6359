# Workers that Nomad itself keeps running, without a pool: one on each node that it may use.
# Their certificates and their configuration are on the nodes, as for rota-worker.service:
# /etc/rota/worker.yaml names the schedulers and what the worker runs.
#
#   nomad job run workers.nomad.hcl
#
# Pools follow the load, and need only the program on the nodes: pool.yaml.
job "rota-workers" {
  type        = "system"
  datacenters = ["*"]

  # One node at a time.
  update {
    max_parallel     = 1
    min_healthy_time = "10s"
  }

  group "worker" {
    task "worker" {
      driver = "raw_exec"

      config {
        command = "/usr/bin/rota"
        args    = ["worker", "--config", "/etc/rota/worker.yaml", "--name", "${node.unique.name}"]
      }

      # Asked to end it hands over what it runs. A client allows 30 s at most, unless its
      # max_kill_timeout is longer; give it longer than the longest --exec-grace.
      kill_signal  = "SIGTERM"
      kill_timeout = "2m"

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
