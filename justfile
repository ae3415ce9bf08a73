# Every recipe is a stage of tests/run; just stays optional.
default: test
check:
    tests/run check
test:
    tests/run unit
sim *seed:
    tests/run sim {{seed}}
interop *which:
    tests/run interop {{which}}
fuzz:
    tests/run fuzz
house:
    tests/run house
bench *which:
    tests/run bench {{which}}
all:
    tests/run
