# Three schedulers that keep the store together, one on each of three nodes that have
# rota_scheduler = "true" in their client's meta. The node has what rota-scheduler.service
# needs: /etc/rota/scheduler.yaml with the scheduler's name, cluster, peer, grpc, http and
# TLS, its certificate (rota cert init, rota cert issue), and the directory of its data.
#
#   nomad job run schedulers.nomad.hcl
job "rota-schedulers" {
  type        = "service"
  datacenters = ["*"]

  constraint {
    attribute = "${meta.rota_scheduler}"
    value     = "true"
  }

  # Two of three serve meanwhile.
  update {
    max_parallel     = 1
    min_healthy_time = "30s"
    healthy_deadline = "5m"
  }

  group "scheduler" {
    count = 3

    constraint {
      distinct_hosts = true
    }

    # Its data is on its node, so it cannot continue on another.
    disconnect {
      lost_after = "24h"
      replace    = false
    }

    restart {
      attempts = 10
      interval = "10m"
      delay    = "2s"
      mode     = "delay"
    }

    task "scheduler" {
      driver = "raw_exec"

      config {
        command = "/usr/bin/rota"
        args    = ["scheduler", "--config", "/etc/rota/scheduler.yaml", "--data-dir", "/var/lib/rota/scheduler"]
      }

      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      resources {
        cpu    = 1000
        memory = 1024
      }
    }
  }
}
