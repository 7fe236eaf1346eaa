module inflight.invalid/tools/crds

go 1.26

// Sources of the definitions of custom resources, and of Kubernetes' own schemas; nothing of them is built.
require (
	github.com/elastic/cloud-on-k8s/v3 v3.5.0
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	k8s.io/kubernetes v1.37.2
)
