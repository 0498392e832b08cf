"""A dress rehearsal: FLUX.1's own configs with random weights, run as a person with the real ones would."""
