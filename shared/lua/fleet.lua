--[[ fleet: what the maintainer makes of all vitals, for every consumer's next beat. Runs under OOM.

KEYS  the shared keys, vitals, fleet
ARGV  the fleet, JSON | consumers whose vitals may go, if they have no session
Reply the new version

It is advice: consumers use it to judge themselves, and no task's state depends on it. What nobody renews for a
minute is about nobody and goes.
]]
local MAX_FLEET, FLEET_TTL = 262144, 60000

local function set_fleet(keys, argv)
  local vitals, fleet, text = keys[OWN + 1], keys[OWN + 2], argv[1]
  if #text > MAX_FLEET then return refuse('the fleet exceeds ' .. MAX_FLEET .. ' bytes') end
  if #argv > MAX_BATCH + 1 then return refuse('fleet takes at most ' .. MAX_BATCH .. ' consumers') end
  local version = (tonumber(match(call('GET', fleet) or '', '^%d+')) or 0) + 1
  call('HLEN', vitals); call('ZCARD', keys[CONSUMERS])
  for i = 2, #argv do
    if not call('ZSCORE', keys[CONSUMERS], argv[i]) then call('HDEL', vitals, argv[i]) end
  end
  call('SET', fleet, int(version) .. ' ' .. text, 'PX', FLEET_TTL)
  return version
end

register('fleet', set_fleet, 'allow-oom')
