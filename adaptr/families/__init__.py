"""Families: the five hooks written once for all methods that work alike.

delta      W' = W + D(p), D an operator                         lora and its kin
transform  W' = T(W, p), from the pristine base                 dora, ia3
insert     y = f(base(x), x): a small network on the way        houlsby, parallel
prompt     virtual tokens or virtual keys and values            prompt, prefix
select     other values for existing parameters                 bitfit
gate       y = base(x) + Σ s_i D_i x, experts mixed by weights    xlora, arrow
fusion     y = f(h, x, what inserts would add to h)             frozen inserts combined
side       a network that reads what blocks put out               attention-fusion, ladder, lets
composite  a fixed arrangement of other methods                 mam
"""
