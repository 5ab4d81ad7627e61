# Removes what one run of the lab made, once its standard input ends: it does so however the lab ends, kill -9 included.
# Arguments: the run's name, its folder, the value of its label.
trap '' INT TERM HUP QUIT
cat >/dev/null

for file in "$2"/pids/*; do
  [ -e "$file" ] || continue
  pid=${file##*/}
  # Only what the file names: a process id may have been taken over by another program since.
  if [ "$(readlink "/proc/$pid/exe")" = "$(cat "$file")" ]; then kill -KILL "$pid"; fi
done

# A container that was being made while others were removed keeps the network busy; then once more.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  left=$(docker ps -aq --filter "label=fleetling-lab.run=$3")
  [ -z "$left" ] || docker rm -fv $left
  docker network rm "$1" && break
  docker network inspect "$1" || break
  sleep 0.5
done
[ -n "$FLEETLING_LAB_KEEP" ] || rm -rf "$2"
