//! Faults put into the text of the functions of jobs: the trace check has to find each.

/// What is wrong then, a text that stands in the library once, and what takes its place.
pub const MUTANTS: [(&str, &str, &str); 8] = [
    (
        "the other copy of what is done goes on",
        "    drop_member(keys, job, twin_of(member), now)\n",
        "",
    ),
    (
        "a reduce does not wait for all its inputs",
        "  if done < children then return end\n",
        "",
    ),
    (
        "what the end of a job had made ready is forgotten",
        "  if job.ready[1] and state ~= 'completed' then call('RPUSH', keys[AGAIN], unpack(job.ready)) end\n",
        "",
    ),
    (
        "delete leaves a key",
        "  for key = JOB, AGAIN do call('UNLINK', keys[key]) end",
        "  for key = JOB, RUNS do call('UNLINK', keys[key]) end",
    ),
    (
        "a retry makes ids that were there before",
        "  job.epoch = tonumber(call('HGET', keys[STATE], 'seq') or '0') + 1\n",
        "  job.epoch = math.max(job.epoch, 1)\n",
    ),
    (
        "a copy that fails decides for the other",
        "  if call('HEXISTS', keys[LIVE], twin_of(member)) == 1 then return end\n  local first",
        "  local first",
    ),
    (
        "a retry runs lost chunks that the result did without",
        "  if job.mapped > 0 then return 0 end\n",
        "",
    ),
    (
        "a task that was dead-lettered stays so",
        "  call('ZREM', keys[FAILED], id)\n  end_task(keys, job, member, 'failed', m, m.consumer, now, m.error)",
        "  end_task(keys, job, member, 'failed', m, m.consumer, now, m.error)",
    ),
];
