"""From a list of samples to a batch: one file a kind of batch.

Every collator takes `collator(features)` or `collator(features, return_tensors="np")`, leaves the samples as they were,
and accepts plain dictionaries as well as a tokenizer's BatchEncoding.
"""

from etude.data.collators.base import DataCollator as DataCollator
from etude.data.collators.base import DataCollatorMixin as DataCollatorMixin
from etude.data.collators.default import DefaultDataCollator as DefaultDataCollator
from etude.data.collators.default import default_data_collator as default_data_collator
from etude.data.collators.flattening import DataCollatorWithFlattening as DataCollatorWithFlattening
from etude.data.collators.masking import DataCollatorForLanguageModeling as DataCollatorForLanguageModeling
from etude.data.collators.multiple_choice import (
    DataCollatorForMultipleChoice as DataCollatorForMultipleChoice,
)
from etude.data.collators.padding import DataCollatorWithPadding as DataCollatorWithPadding
from etude.data.collators.permutation import (
    DataCollatorForPermutationLanguageModeling as DataCollatorForPermutationLanguageModeling,
)
from etude.data.collators.seq2seq import DataCollatorForSeq2Seq as DataCollatorForSeq2Seq
from etude.data.collators.token_classification import (
    DataCollatorForTokenClassification as DataCollatorForTokenClassification,
)
from etude.data.collators.whole_words import DataCollatorForWholeWordMask as DataCollatorForWholeWordMask
