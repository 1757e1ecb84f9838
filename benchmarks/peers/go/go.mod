module asgid.invalid/benchmarks/peer

go 1.19
