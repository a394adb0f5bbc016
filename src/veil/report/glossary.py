"""The terms that the page uses, in a sentence each."""

GLOSSARY = {
    "gallery, probe": "photos that the adversary knows with names; photos that are repainted and attacked",
    "genuine, impostor": "a pair of photos of one person; of two",
    "recogniser": "a network that turns a face into a vector (an embedding); alike faces have alike vectors",
    "cosine": "how alike two embeddings are, from -1 to 1",
    "white box": "the recogniser that helped to choose what to mask; its own verdict flatters the mask",
    "held-out judge": "a recogniser that only measures and took no part in making a mask",
    "rank": "place of the true person when everyone enrolled is ordered by likeness; rank-k counts ranks up to k",
    "threshold": "the cosine above which a recogniser says “same person”",
    "FAR, FRR, TAR": "impostor pairs accepted; genuine pairs rejected; genuine pairs accepted (1 - FRR)",
    "CMC curve": "share of photos whose person is among the k best matches, for each k",
    "DET curve": "genuine pairs rejected for each share of impostor pairs accepted, as the threshold moves",
    "naive attack": "repainted photos are compared with clear enrolled ones",
    "linkage, parrot, reversal": "stronger attacks: the adversary compares with photos repainted the same way, learns "
    "from such photos, or first tries to undo the repainting",
    "95 % interval": "where the figure would likely lie with other people like these",
    "chance": "what guessing without looking would reach: 1 in the number of people enrolled",
}
