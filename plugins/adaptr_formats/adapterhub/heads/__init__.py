"""AdapterHub's prediction heads beside an adapter, as whole parameters of a model that has such a head itself.

Its heads are layers of their own, each behind the other with a function between; a model of transformers for the task
has layers of its own names. Where these are the same computation (`layouts`, `matching`), they are taken. Where the
model's last layer has no bias, the head's is a part of the adapter (`scale-shift`), and where the head has none the
model's is zero. A head whose weight is the model's table, as the base has it, brings nothing. One that was saved of
such a model (`BertForSequenceClassification` with `adapters.init`) has that one's names.
"""
