--[[ examine and mend: the places of tasks, judged in one moment. docs/operations.md (doctor) explains the findings.

examine: KEYS the shared keys and the running hashes of all consumers   ARGV ids (none a step of a job)
         Reply 1, then id and finding of each that is not as it must be (diagnose.lua lists them) | or 0 alone: a consumer with a
         session has no hash among the keys: list them anew. Reads only.
mend:    KEYS as examine   ARGV as examine   Reply the same: what was mended. Refused under OOM.
]]
local function plain(mends)
  return function(keys, argv)
    if #argv < 1 then return refuse('takes 1 to ' .. MAX_BATCH .. ' ids') end
    return visit(keys, argv, OWN + 1, nil, mends)
  end
end

register('examine', plain(false), 'no-writes')
register('mend', plain(true))
