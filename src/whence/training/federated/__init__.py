"""Training where the photos are: one network learned by many owners, none of whom gives a photo
away.

After FedVPR (Dutto, Berton, Caldarola, Fani, Trivigno, Masone, CVPR workshop FedVision 2024), of
whose paper only the abstract and summaries were readable: names are theirs, sizes and rates are
ours. Rounds, strategies and transport are Flower's.
"""
