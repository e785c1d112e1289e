"""Operations on packages, and the rights to them."""
