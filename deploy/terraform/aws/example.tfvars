region            = "eu-central-1"
cluster_name      = "ml"
vpc_id            = "vpc-0123456789abcdef0"
subnet_ids        = ["subnet-0a", "subnet-0b", "subnet-0c"]
image_repository  = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/inflight"
image_digest      = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
elasticsearch_url = "https://search.example.com:9243"
