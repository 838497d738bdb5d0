"""Graph to Graph (simplification, autodiff) and Graph to Plan (`lower`). A pass leaves its argument
unchanged."""
